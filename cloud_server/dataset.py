"""Rows to train on, out of a prepared log: histories, targets, and negatives drawn anew."""

# Shapes: N items taken, E events of the log, U users, B rows, H history, T items of a run, R runs,
# C candidates, K negatives, W neighbours, L events of each, M value ids.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from cloud_server.behaviour import Behaviour
from cloud_server.inside import Inside
from shared_models.config import MethodConfig, NeighbourSpec
from shared_models.contract.errors import TooSmall
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.logs.activity import grouped
from shared_models.logs.fields import item_fields, user_fields
from shared_models.logs.neighbours import listed
from shared_models.logs.prepared import Part, PreparedLog, targets
from shared_models.method import Batch, Facts


@dataclass(frozen=True, slots=True)
class EventKeys:
    """Who did what when: B events of a log."""

    user_B: Int64Array
    seq_B: Int64Array
    at_B: NDArray[np.float64]

    @classmethod
    def of(cls, events: pl.DataFrame) -> "EventKeys":
        """From a frame of events."""
        user_B, seq_B = (events[name].to_numpy().astype(np.int64) for name in ("user", "seq"))
        return cls(user_B, seq_B, events["at"].to_numpy())


class Others:
    """What training may know of a user's neighbours.

    Args:
        neighbours_UW: int64 users, padded with -1.
        past: by part, the behaviour that is known of them when that part is at hand.
        spec: how much of it is read.
    """

    def __init__(
        self, neighbours_UW: Int64Array, past: Mapping[Part, Behaviour], spec: NeighbourSpec
    ) -> None:
        self._neighbours_UW, self._past, self._spec = neighbours_UW, past, spec

    @classmethod
    def of(cls, log: PreparedLog, spec: NeighbourSpec) -> "Others":
        """Neighbours by what they took in the training part, and each part's own past."""
        found_UW = listed(log, spec)
        known = (log.train, pl.concat([log.train, log.validation]).sort("user", "seq"), log.events)
        if spec.seen == "end":
            known = (log.train, log.train, known[1])
        train, validation, test = (Behaviour.of(frame, log.users) for frame in known)
        past: dict[Part, Behaviour] = {"train": train, "validation": validation, "test": test}
        return cls(found_UW, past, spec)

    def histories(self, keys: EventKeys, part: Part) -> Int64Array:
        """The newest items of each row's neighbours: (B, W, L), left-padded, zeros for nobody."""
        user_BW = self._neighbours_UW[keys.user_B]
        user_R, length = np.maximum(user_BW, 0).ravel(), self._spec.events
        behaviour = self._past[part]
        if self._spec.seen == "end":
            found_RL = behaviour.whole(user_R, length)
        else:
            found_RL = behaviour.before(user_R, keys.at_B.repeat(user_BW.shape[1]), length)
        found_BWL = found_RL.reshape(*user_BW.shape, length)
        return np.where(user_BW[..., None] >= 0, found_BWL, 0)


class Negatives:
    """Draws items that a user does not take in the training part, which is all that is known."""

    def __init__(self, train: pl.DataFrame, items: int) -> None:
        self._items = items
        self._keys = np.unique(self._key(train["user"].to_numpy(), train["item"].to_numpy()))

    def draw(self, user_B: Int64Array, count: int, rng: np.random.Generator) -> Int64Array:
        """Uniform items (B, K); a user who took nearly everything may keep a few of them."""
        drawn_BK = rng.integers(1, self._items + 1, (len(user_B), count))
        for _ in range(32):
            taken_BK = self._taken(user_B, drawn_BK)
            if not taken_BK.any():
                break
            drawn_BK[taken_BK] = rng.integers(1, self._items + 1, int(taken_BK.sum()))
        return drawn_BK

    def _taken(self, user_B: Int64Array, item_BK: Int64Array) -> NDArray[np.bool_]:
        keys_BK = self._key(user_B[:, None], item_BK)
        place_BK = np.searchsorted(self._keys, keys_BK).clip(max=len(self._keys) - 1)
        taken_BK: NDArray[np.bool_] = self._keys[place_BK] == keys_BK
        return taken_BK

    def _key(self, user: Int64Array, item: Int64Array) -> Int64Array:
        return user.astype(np.int64) * (self._items + 1) + item


class Dataset:
    """The rows of one log, as batches for one method.

    Mere behaviour is history and never a target, except in `sequences`, which are nothing else.

    Args:
        log: prepared.
        config: of the method: how much history it wants, whose, and which features.
        device: where batches go.
        age: events of history beside that.
    """

    def __init__(
        self, log: PreparedLog, config: MethodConfig, device: torch.device, age: int = 0
    ) -> None:
        self._log, self._history, self._device = log, config.history + age, device
        self._labelled = "label" in log.train.columns
        self._train = targets(log.train if self._labelled else log.train.filter(pl.col("seq") > 0))
        self._validation = targets(log.validation)
        self._negatives = Negatives(log.train, log.items)
        self.behaviour = Behaviour.of(log.events, log.users)
        self._learnt = Behaviour.of(log.train, log.users)
        self.facts = _facts(log)
        self._profile = _profiles(log) if config.features.profile else None
        self._others = Others.of(log, config.neighbours) if config.neighbours else None
        self._groups = grouped(log, config.user_groups) if config.user_groups else None

    def epoch(self, rng: np.random.Generator, rows: int, negatives: int) -> Iterator[Batch]:
        """Every training row once, in random order; a positive sits beside its negatives."""
        order = rng.permutation(len(self._train))
        for start in range(0, len(order), rows):
            yield self._batch(self._train[order[start : start + rows]], negatives, rng, "train")

    def sample(self, rng: np.random.Generator, rows: int) -> Batch:
        """Some training rows, at most ``rows``, by chance and without negatives."""
        return next(self.epoch(rng, rows, 0))

    def steps(self, rows: int) -> int:
        """Batches in an epoch."""
        return -(-len(self._train) // rows)

    def sequences(self, rng: np.random.Generator, rows: int) -> list[Batch]:
        """The training part as runs of H + 1 items, in random order; each item is a target once.

        Runs of a user follow each other; where the first one ends is drawn anew each epoch.
        """
        runs_RH = rng.permutation(self._learnt.runs(self._history, rng))
        parts = (runs_RH[start : start + rows] for start in range(0, len(runs_RH), rows))
        return [self._without_candidates(part_BH) for part_BH in parts]

    def sessions(
        self,
        rng: np.random.Generator,
        rows: int,
        ahead: int,
        passes: int = 1,
        most: int | None = None,
    ) -> list[Batch]:
        """Moments inside sessions of the validation part, in random order, each ``passes`` times.

        A history ends ``ahead`` exposures later, or with the session where that is sooner. Of
        more than ``most`` of these, so many are drawn.

        Raises:
            TooSmall: there is no such moment.
        """
        if not len(self._inside.now_R):
            raise TooSmall(
                "no session of the validation part holds two events: nothing tells when a list "
                "that is there should be replaced"
            )
        now_R = rng.permutation(np.tile(self._inside.now_R, passes))[:most]
        parts = (now_R[start : start + rows] for start in range(0, len(now_R), rows))
        return [self._in_session(part_B, ahead) for part_B in parts]

    def _in_session(self, now_B: Int64Array, ahead: int) -> Batch:
        items_BH, since_B, left_B = self._inside.rows(now_B, ahead, self._history)
        batch = self._without_candidates(items_BH)
        return replace(batch, since_B=self._tensor(since_B), left_B=self._tensor(left_B))

    @cached_property
    def _inside(self) -> Inside:
        return Inside.of(self._log)

    def validation(self, limit: int, negatives: int) -> Iterator[Batch]:
        """At most ``limit`` validation rows, the same ones with the same negatives each time."""
        rng = np.random.default_rng(0)
        part = self._validation
        if len(part) > limit:
            part = part[np.sort(rng.choice(len(part), limit, replace=False))]
        for start in range(0, len(part), 512):
            yield self._batch(part[start : start + 512], negatives, rng, "validation")

    def batch(
        self,
        keys: EventKeys,
        item_BC: Int64Array,
        label_BC: Float32Array,
        part: Part = "test",
        prior_BC: Float32Array | None = None,
    ) -> Batch:
        """Candidates and labels beside what is known before some events of ``part``."""
        histories = self.behaviour.histories(keys.user_B, keys.seq_B, self._history)
        profile_UM, others, groups_U = self._profile, self._others, self._groups
        return Batch(
            self._tensor(histories),
            self._tensor(item_BC),
            self._tensor(label_BC),
            None if profile_UM is None else self._tensor(profile_UM[keys.user_B]),
            None if others is None else self._tensor(others.histories(keys, part)),
            None if groups_U is None else self._tensor(groups_U[keys.user_B]),
            None if prior_BC is None else self._tensor(prior_BC),
        )

    def _batch(
        self, events: pl.DataFrame, negatives: int, rng: np.random.Generator, part: Part
    ) -> Batch:
        keys = EventKeys.of(events)
        item_B1 = events["item"].to_numpy().astype(np.int64)[:, None]
        if self._labelled:
            label_B1 = (events["label"].to_numpy() > 0).astype(np.float32)[:, None]
            prior_B1 = events["prior"].to_numpy()[:, None] if "prior" in events.columns else None
            return self.batch(keys, item_B1, label_B1, part, prior_B1)
        drawn_BK = self._negatives.draw(keys.user_B, negatives, rng)
        label_BC = np.zeros((len(events), 1 + negatives), np.float32)
        label_BC[:, 0] = 1
        return self.batch(keys, np.hstack([item_B1, drawn_BK]), label_BC, part)

    def _without_candidates(self, items_BH: Int64Array) -> Batch:
        none_B0 = torch.zeros((len(items_BH), 0), device=self._device)
        return Batch(self._tensor(items_BH), none_B0.long(), none_B0)

    def _tensor(self, array: Int64Array | Float32Array) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)


def _facts(log: PreparedLog) -> Facts:
    counts = np.bincount(log.train["item"].to_numpy(), minlength=log.items + 1)
    fields = item_fields(log)
    values_VM = np.zeros((log.items + 1, 1), np.int64) if fields is None else fields.ids
    return Facts(torch.from_numpy(counts / counts.sum()).float(), torch.from_numpy(values_VM))


def _profiles(log: PreparedLog) -> Int64Array | None:
    fields = user_fields(log)
    return None if fields is None else fields.ids
