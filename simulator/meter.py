"""What a replay knows of itself while it goes: counts, and metrics of the moments ranked so far."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from shared_models.contract.metrics import Float64Array
from shared_models.contract.tensors import Int64Array
from shared_models.logs.moments import Moments
from simulator.tally import Tally, taken_ranks

_CUTOFF: Final = 10


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a replay is, and what it has measured so far.

    Attributes:
        title: the run, as in ``duet (sasrec, seed 0)``.
        users: virtual devices.
        done: moments ranked.
        moments: moments of the whole run.
        hit_rate: HR@10 over the moments so far at which something was taken; nan without any.
        ndcg: NDCG@10 over the same.
        bytes_up: payload so far, devices to cloud.
        bytes_down: payload so far, cloud to devices.
        seconds: since the run began.
    """

    title: str
    users: int
    done: int
    moments: int
    hit_rate: float
    ndcg: float
    bytes_up: int
    bytes_down: int
    seconds: float

    @property
    def is_over(self) -> bool:
        """Whether every moment was ranked."""
        return self.done == self.moments


class Meter:
    """Counts what one run has ranked so far.

    Args:
        title: the run.
        moments: what is played.
        clock: monotonic seconds.
    """

    def __init__(
        self, title: str, moments: Moments, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._title, self._moments, self._clock = title, moments, clock
        self._users = len(np.unique(moments.user))
        self._start = clock()
        self._done = self._taken = 0
        self._hits = self._gain = 0.0

    def read(self, tally: Tally, entered: Int64Array, traffic: tuple[int, int]) -> Standing:
        """Count the moments that were just ``entered`` into ``tally``."""
        self._done += len(entered)
        self._count(taken_ranks(tally.evaluated_at(entered)))
        taken = self._taken or math.nan
        return Standing(
            title=self._title,
            users=self._users,
            done=self._done,
            moments=len(self._moments),
            hit_rate=self._hits / taken,
            ndcg=self._gain / taken,
            bytes_up=traffic[0],
            bytes_down=traffic[1],
            seconds=self._clock() - self._start,
        )

    def _count(self, ranks: Float64Array) -> None:
        hits = ranks[ranks <= _CUTOFF]
        self._taken += int(np.isfinite(ranks).sum())
        self._hits += len(hits)
        self._gain += float((1 / np.log2(hits + 1)).sum())
