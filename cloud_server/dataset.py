"""Rows to train on, out of a prepared log: histories, targets, and negatives drawn anew."""

# Shapes: N items taken, E events of the log, U users, B rows, H history, T items of a run, R runs,
# C candidates, K negatives.

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.logs.prepared import PreparedLog, targets
from shared_models.method import Batch


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What every user took, one user after the other in order of time.

    Attributes:
        taken_N: int64 items taken.
        start_U: int64 index of each user's first one.
        before_E: for each event of the log in order of (user, seq), the index in ``taken_N`` just
            after the user's last item before it.
        first_event_U: int64 index of each user's first event in ``before_E``.
    """

    taken_N: Int64Array
    start_U: Int64Array
    before_E: Int64Array
    first_event_U: Int64Array

    @classmethod
    def of(cls, events: pl.DataFrame, users: int) -> "Behaviour":
        """Read the behaviour out of all parts of a log, sorted by (user, seq)."""
        user_E = events["user"].to_numpy().astype(np.int64)
        taken = events["label"].to_numpy() > 0 if "label" in events else np.ones(len(user_E), bool)
        before_E = np.cumsum(taken) - taken
        if "request" in events:
            # What was shown together was taken after all of it was shown.
            before_E = (
                events.with_columns(before=pl.Series(before_E))
                .select(pl.col("before").first().over("user", "request"))["before"]
                .to_numpy()
            )
        first_event_U = np.searchsorted(user_E, np.arange(users))
        start_U = np.concatenate([before_E, [taken.sum()]])[first_event_U]
        taken_N = events["item"].to_numpy().astype(np.int64)[taken]
        return cls(taken_N, start_U, before_E.astype(np.int64), first_event_U)

    def histories(self, user_B: Int64Array, seq_B: Int64Array, length: int) -> Int64Array:
        """The H items that each user took before event ``seq``: (B, H), left-padded."""
        end_B = self.before_E[self.first_event_U[user_B] + seq_B]
        index_BH = end_B[:, None] - np.arange(length, 0, -1)
        known_BH = index_BH >= self.start_U[user_B][:, None]
        taken_BH = self.taken_N[np.clip(index_BH, 0, None)] if len(self.taken_N) else index_BH
        return np.where(known_BH, taken_BH, 0)

    def runs(self, length: int, rng: np.random.Generator) -> Int64Array:
        """What users took, cut into runs of ``length`` items and the next one.

        A run begins with the item that the one before it ends with, so that each item but a
        user's first is the next one of something once. First runs have a random length.

        Returns:
            int64 (R, length + 1), left-padded, one user's runs after the other.
        """
        count_U = np.diff(self.start_U, append=len(self.taken_N))
        early_U = rng.integers(0, length, len(count_U))
        runs_U = np.where(count_U > 1, -(-(count_U - 1 + early_U) // length), 0)
        user_R = np.repeat(np.arange(len(count_U)), runs_U)
        number_R = np.arange(len(user_R)) - np.repeat(np.cumsum(runs_U) - runs_U, runs_U)
        begin_R = number_R * length - early_U[user_R]
        last_R = np.minimum(begin_R + length, count_U[user_R] - 1)
        place_RT = last_R[:, None] + np.arange(-length, 1)
        known_RT = place_RT >= np.maximum(begin_R, 0)[:, None]
        index_RT = np.where(known_RT, self.start_U[user_R][:, None] + place_RT, 0)
        return np.where(known_RT, self.taken_N[index_RT], 0)


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
    """The rows of one log, as batches for a method that wants H items of history.

    Mere behaviour is history and never a target, except in `sequences`, which are nothing else.

    Args:
        log: prepared.
        history: H.
        device: where batches go.
    """

    def __init__(self, log: PreparedLog, history: int, device: torch.device) -> None:
        self._history, self._device = history, device
        self._labelled = "label" in log.train.columns
        self._train = targets(log.train if self._labelled else log.train.filter(pl.col("seq") > 0))
        self._validation = targets(log.validation)
        self._negatives = Negatives(log.train, log.items)
        self.behaviour = Behaviour.of(log.events, log.users)
        self._learnt = Behaviour.of(log.train, log.users)
        counts = np.bincount(log.train["item"].to_numpy(), minlength=log.items + 1)
        self.popularity = torch.from_numpy(counts / counts.sum()).float()

    def epoch(self, rng: np.random.Generator, rows: int, negatives: int) -> Iterator[Batch]:
        """Every training row once, in random order; a positive sits beside its negatives."""
        order = rng.permutation(len(self._train))
        for start in range(0, len(order), rows):
            yield self._batch(self._train[order[start : start + rows]], negatives, rng)

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

    def validation(self, limit: int, negatives: int) -> Iterator[Batch]:
        """At most ``limit`` validation rows, the same ones with the same negatives each time."""
        rng = np.random.default_rng(0)
        part = self._validation
        if len(part) > limit:
            part = part[np.sort(rng.choice(len(part), limit, replace=False))]
        for start in range(0, len(part), 512):
            yield self._batch(part[start : start + 512], negatives, rng)

    def histories(self, user_B: Int64Array, seq_B: Int64Array) -> torch.Tensor:
        """Histories (B, H) of any events of the log, on the dataset's device."""
        return self._tensor(self.behaviour.histories(user_B, seq_B, self._history))

    def _batch(self, rows: pl.DataFrame, negatives: int, rng: np.random.Generator) -> Batch:
        user_B = rows["user"].to_numpy().astype(np.int64)
        seq_B = rows["seq"].to_numpy().astype(np.int64)
        item_B1 = rows["item"].to_numpy().astype(np.int64)[:, None]
        if self._labelled:
            label_B1 = (rows["label"].to_numpy() > 0).astype(np.float32)[:, None]
            return self._assemble(user_B, seq_B, item_B1, label_B1)
        drawn_BK = self._negatives.draw(user_B, negatives, rng)
        label_BC = np.zeros((len(rows), 1 + negatives), np.float32)
        label_BC[:, 0] = 1
        return self._assemble(user_B, seq_B, np.hstack([item_B1, drawn_BK]), label_BC)

    def _without_candidates(self, items_BH: Int64Array) -> Batch:
        none_B0 = torch.zeros((len(items_BH), 0), device=self._device)
        return Batch(self._tensor(items_BH), none_B0.long(), none_B0)

    def _assemble(
        self, user_B: Int64Array, seq_B: Int64Array, item_BC: Int64Array, label_BC: Float32Array
    ) -> Batch:
        history_BH = self.histories(user_B, seq_B)
        return Batch(history_BH, self._tensor(item_BC), self._tensor(label_BC))

    def _tensor(self, array: Int64Array | Float32Array) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)
