"""What every user took, out of a prepared log: where histories come from."""

# Shapes: N items taken, E events of the log, U users, B rows, H history, T items of a run, R runs.

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shared_models.contract.tensors import Int64Array


@dataclass(frozen=True)
class Behaviour:
    """What every user took, one user after the other in order of time.

    Attributes:
        taken_N: int64 items taken.
        at_N: float64 seconds of each.
        start_U: int64 index of each user's first one.
        before_E: for each event of the log in order of (user, seq), the index in ``taken_N`` just
            after the user's last item before it.
        first_event_U: int64 index of each user's first event in ``before_E``.
    """

    taken_N: Int64Array
    at_N: NDArray[np.float64]
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
        at_N = events["at"].to_numpy()[taken]
        return cls(taken_N, at_N, start_U, before_E.astype(np.int64), first_event_U)

    def histories(self, user_B: Int64Array, seq_B: Int64Array, length: int) -> Int64Array:
        """The H items that each user took before event ``seq``: (B, H), left-padded."""
        return self.until(self.before_E[self.first_event_U[user_B] + seq_B], user_B, length)

    def whole(self, user_B: Int64Array, length: int) -> Int64Array:
        """The newest items that each user ever took: (B, H), left-padded."""
        return self.until(np.append(self.start_U, len(self.taken_N))[user_B + 1], user_B, length)

    def before(self, user_B: Int64Array, at_B: NDArray[np.float64], length: int) -> Int64Array:
        """The newest items that each user took before a time: (B, H), left-padded."""
        place_N, keys_N = self._moments
        key_B = user_B * (len(place_N) + 1) + np.searchsorted(place_N, at_B)
        return self.until(np.searchsorted(keys_N, key_B), user_B, length)

    @cached_property
    def _moments(self) -> tuple[NDArray[np.float64], Int64Array]:
        """All times there are, and for each item taken a number that grows with (user, time)."""
        times, place_N = np.unique(self.at_N, return_inverse=True)
        user_N = np.searchsorted(self.start_U, np.arange(len(self.taken_N)), "right") - 1
        return times, user_N * (len(times) + 1) + place_N

    def until(self, end_B: Int64Array, user_B: Int64Array, length: int) -> Int64Array:
        """The newest items before an index of ``taken_N``: (B, H), left-padded."""
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
