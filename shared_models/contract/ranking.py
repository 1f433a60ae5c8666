"""What a device is asked to rank, and what it answers, with its provenance."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from shared_models.contract.tensors import Float32Array, Int64Array

MECHANISMS: Final = ("session", "refresh", "device")
"""What a controller chooses among, in the order of its classes: the list that the session began
with or got since, as it is; a new one from the cloud; the list re-ranked by the device."""


class Decision(StrEnum):
    """What a device does at a moment."""

    SCORE = "score"
    """Rank locally with what is there."""
    REFRESH = "refresh"
    """Ask the cloud for slot values, then rank locally."""
    ASK_CLOUD = "ask-cloud"
    """Let the cloud rank."""
    KEEP = "keep"
    """Show what the cloud ranked before, as it did."""


class Source(StrEnum):
    """What a ranking was made with."""

    DEFAULT_WEIGHTS = "default-weights"
    OVERLAY = "overlay"
    STALE_OVERLAY = "stale-overlay"
    CLOUD = "cloud"
    LEARNED_WEIGHTS = "learned-weights"
    LIST = "list"
    RERANKED = "reranked"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the cloud is asked to rank.

    Attributes:
        window: the user's newest items, newest last.
        candidates: item ids to score; empty where the cloud is to find some.
        retrieve: how many of the whole catalogue's best are wanted, where there are no candidates.
    """

    window: Sequence[int]
    candidates: Sequence[int] = ()
    retrieve: int = 0


@dataclass(frozen=True, slots=True)
class RankedList:
    """What the cloud ranked.

    Attributes:
        items: int64 (N,), distinct.
        scores: float32 (N,), a logit for each.
        events_seen: events of the user when it was asked.
    """

    items: Int64Array
    scores: Float32Array
    events_seen: int

    def of(self, candidates: Int64Array) -> Float32Array:
        """Logits float32 (C,); what did not make the list is as good as the last that did."""
        order = np.argsort(self.items)
        place = np.searchsorted(self.items, candidates, sorter=order).clip(max=len(order) - 1)
        found = order[place]
        listed = self.items[found] == candidates
        scores: Float32Array = np.where(listed, self.scores[found], self.scores.min())
        return scores


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an exchange with the cloud cost, and one that had to follow it.

    Attributes:
        ask: number of the first in the device's life; the cloud's ledger has the same.
        bytes_up: payload from device to cloud.
        bytes_down: payload from cloud to device.
        seconds: measured, from the first byte written to the answer read.
        exchanges: how many it is about, one after the other.
    """

    ask: int
    bytes_up: int
    bytes_down: int
    seconds: float
    exchanges: int = 1

    def __add__(self, following: "Receipt") -> "Receipt":
        return Receipt(
            self.ask,
            self.bytes_up + following.bytes_up,
            self.bytes_down + following.bytes_down,
            self.seconds + following.seconds,
            self.exchanges + following.exchanges,
        )


@dataclass(frozen=True, slots=True)
class Ranking:
    """One completed recommendation.

    Attributes:
        candidates: int64 (C,), the items as they were handed in.
        scores: float32 (C,), one logit for each of them.
        source: what made the scores.
        bundle_id: the bundle that was active.
        overlay_age: events since the window that made the overlay, or the list; None without one.
        decision: what the device did.
        receipt: of the exchange that it waited for; None where none was answered.
    """

    candidates: Int64Array
    scores: Float32Array
    source: Source
    bundle_id: str
    overlay_age: int | None
    decision: Decision
    receipt: Receipt | None = None

    @property
    def items(self) -> Int64Array:
        """The candidates, best first; equal scores keep their order."""
        return self.candidates[np.argsort(-self.scores, kind="stable")]
