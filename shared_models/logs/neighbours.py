"""Who is alike: for each user those others who took the most similar items, in logs of any size."""

# Shapes: U users, V items, P distinct pairs of a user and an item that counts, N neighbours,
# I items of one user, S what all users share with that user, item by item, G groups of users.

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shared_models.config import NeighbourSpec
from shared_models.contract.errors import BadSetting
from shared_models.contract.tensors import Int64Array
from shared_models.logs.prepared import NEIGHBOURS, PreparedLog, taken

Float64Array = NDArray[np.float64]
_UNITS: Final = 1 << 10
_GROUP: Final = 32


def listed(log: PreparedLog, spec: NeighbourSpec) -> Int64Array:
    """Whom each user of ``log`` learns from, as ``spec`` says: int64 (U, N), padded with -1.

    Similarity is that of the training part. Of those that a log names, the first ones count.

    Raises:
        BadSetting: the log names none.
    """
    match spec.chosen:
        case "alike":
            return neighbours(log.train, log.users, log.items, spec.count)
        case "told":
            return _told(log, spec.count)
        case "random":
            return _anybody(log, spec.count)


def _told(log: PreparedLog, count: int) -> Int64Array:
    table = log.user_table.sort("user")
    if NEIGHBOURS not in table.columns:
        raise BadSetting("others.chosen", f"the log {log.manifest.name} names no neighbours")
    number = dict(zip(table["raw"].to_list(), table["user"].to_list(), strict=True))
    named = ((cell or "").split() for cell in table[NEIGHBOURS].to_list())
    known = (
        [number[raw] for raw in raws if number.get(raw, user) != user][:count]
        for user, raws in enumerate(named)
    )
    return np.array([[*own, *[-1] * (count - len(own))] for own in known], np.int64)


def _anybody(log: PreparedLog, count: int) -> Int64Array:
    """Another control than no neighbours: as many vectors, of which only the choice is lost."""
    rng = np.random.default_rng(0)
    others = log.users - 1
    most = min(count, others)
    drawn_UN = np.stack([rng.choice(others, most, replace=False) for _ in range(log.users)])
    drawn_UN += drawn_UN >= np.arange(log.users)[:, None]  # oneself is left out
    return np.pad(drawn_UN, ((0, 0), (0, count - most)), constant_values=-1)


def neighbours(
    events: pl.DataFrame, users: int, items: int, count: int, *, most_users: int = 2000
) -> Int64Array:
    """The users most similar to each user: by the cosine of the sets of items that they took.

    An item that c of all U users took weighs ``w = log(U / c)``; a blockbuster says little::

        similarity(a, b) = sum of w**2 over the items of both / (|a| |b|)
        |a|**2           = sum of w**2 over the items of a

    with ``w**2`` rounded to a multiple of 2**-10: sums of such are exact in any order, and so are
    their squares, so users who are equally similar tie.

    Items that more than ``most_users`` users took stay out of all three sums. An item costs the
    square of its users, so this bounds the work, by ``most_users`` for each pair of a user and an
    item. In 20 million events of 100,000 users on 50,000 items under Zipf's law, the 870 items of
    more than 2,000 users would be 98.6 % of the work. Where there are at most ``most_users`` users,
    no item stays out.

    Args:
        events: ``user`` from 0, ``item`` from 1; what was taken again counts once, and what was
            shown in vain does not count.
        users: U.
        items: V.
        count: N.
        most_users: who may have taken an item that counts.

    Returns:
        int64 (U, N), the most similar first, of equal ones the smaller number; then -1, where
        fewer others share an item with the user.
    """
    crowd = _Crowd.of(taken(events), users, items, most_users)
    return np.stack([crowd.nearest(user, count) for user in range(users)])


@dataclass(frozen=True, slots=True)
class _Crowd:
    """Who took what, by user and by item.

    Attributes:
        item_P: int64 items, one user after the other.
        item_start_U: int64 (U + 1,), where each user's items begin.
        user_P: int64 users, one item after the other.
        user_start_V: int64 (V + 2,), where each item's users begin.
        square_V: float64 (V + 1,), squared weights.
        norm_U: float64, |a|**2, or 1 where that is 0; filled up to a multiple of `_GROUP`.
    """

    item_P: Int64Array
    item_start_U: Int64Array
    user_P: Int64Array
    user_start_V: Int64Array
    square_V: Float64Array
    norm_U: Float64Array

    @classmethod
    def of(cls, events: pl.DataFrame, users: int, items: int, most_users: int) -> "_Crowd":
        """Read it out of ``user, item``."""
        user_P, item_P = _distinct(events["user"], events["item"], items + 1)
        square_V = _squares(np.bincount(item_P, minlength=items + 1), users, most_users)
        counts_P = square_V[item_P] > 0
        user_P, item_P = user_P[counts_P], item_P[counts_P]
        norm_U = np.bincount(user_P, square_V[item_P], users + -users % _GROUP)
        by_item_P = np.argsort(item_P, kind="stable")
        return cls(
            item_P,
            np.searchsorted(user_P, np.arange(users + 1)),
            user_P[by_item_P],
            np.searchsorted(item_P[by_item_P], np.arange(items + 2)),
            square_V,
            np.where(norm_U > 0, norm_U, 1),
        )

    def nearest(self, user: int, count: int) -> Int64Array:
        """The ``count`` users most similar to ``user``, then -1."""
        closeness_U = self._closeness(user)
        closeness_U[user] = 0
        near = _greatest(closeness_U, count)
        order = np.lexsort((near, -closeness_U[near]))[:count]
        return np.pad(near[order], (0, count - len(order)), constant_values=-1)

    def _closeness(self, user: int) -> Float64Array:
        """The squared similarity to everybody, less the user's own norm, which orders nothing."""
        item_I = self.item_P[self.item_start_U[user] : self.item_start_U[user + 1]]
        if not len(item_I):
            return np.zeros(len(self.norm_U))
        start_I, stop_I = self.user_start_V[item_I], self.user_start_V[item_I + 1]
        spans = zip(start_I.tolist(), stop_I.tolist(), strict=True)
        user_S = np.concatenate([self.user_P[start:stop] for start, stop in spans])
        square_S = np.repeat(self.square_V[item_I], stop_I - start_I)
        shared_U = np.bincount(user_S, square_S, len(self.norm_U))
        return shared_U * shared_U / self.norm_U


def _distinct(user_E: pl.Series, item_E: pl.Series, columns: int) -> tuple[Int64Array, Int64Array]:
    """Each pair once, by user, then by item."""
    key_E = user_E.to_numpy().astype(np.int64) * columns + item_E.to_numpy()
    key_E.sort()
    key_P = key_E[np.diff(key_E, prepend=-1) > 0]
    return np.divmod(key_P, columns)


def _squares(holders_V: Int64Array, users: int, most_users: int) -> Float64Array:
    """Squared weights; 0 for items that do not count."""
    weight_V = np.log(users / np.maximum(holders_V, 1))
    return np.where(holders_V <= most_users, np.rint(_UNITS * weight_V**2) / _UNITS, 0)


def _greatest(values_U: Float64Array, count: int) -> Int64Array:
    """Where the ``count`` greatest positive values stand, all that tie, and few others.

    At least ``count`` groups of values have a maximum that reaches the bound, so each of the
    greatest values does. A partition of all values is slow where most of them are 0.
    """
    maxima_G = values_U.reshape(_GROUP, -1).max(axis=0)
    place = len(maxima_G) - count
    bound = np.partition(maxima_G, place)[place] if place >= 0 else 0
    return np.flatnonzero((values_U >= bound) & (values_U > 0))
