"""What devices reported of one run, kept in the order of the log's moments.

Each ranking has its place from the start, so the result does not depend on how many processes
reported, or in which order: metrics taken from it are the same to the last bit.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from protos.v1 import simulation_pb2
from protos.v1.simulation_pb2 import Rankings
from shared_models.contract.errors import RunFailed
from shared_models.contract.metrics import Float64Array, Ranked, middle_ranks
from shared_models.contract.ranking import Decision, Source
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.logs.moments import Moments

# Shapes: M moments, S candidates of all moments together, K moments of one report.

SOURCES: Final[dict[int, str]] = {
    simulation_pb2.SOURCE_DEFAULT_WEIGHTS: Source.DEFAULT_WEIGHTS.value,
    simulation_pb2.SOURCE_OVERLAY: Source.OVERLAY.value,
    simulation_pb2.SOURCE_STALE_OVERLAY: Source.STALE_OVERLAY.value,
    simulation_pb2.SOURCE_CLOUD: Source.CLOUD.value,
    simulation_pb2.SOURCE_LEARNED_WEIGHTS: Source.LEARNED_WEIGHTS.value,
    simulation_pb2.SOURCE_LIST: Source.LIST.value,
    simulation_pb2.SOURCE_RERANKED: Source.RERANKED.value,
}
DECISIONS: Final[dict[int, str]] = {
    simulation_pb2.DECISION_SCORE: Decision.SCORE.value,
    simulation_pb2.DECISION_REFRESH: Decision.REFRESH.value,
    simulation_pb2.DECISION_ASK_CLOUD: Decision.ASK_CLOUD.value,
    simulation_pb2.DECISION_KEEP: Decision.KEEP.value,
}
WITH_AGE: Final = (
    simulation_pb2.SOURCE_OVERLAY,
    simulation_pb2.SOURCE_STALE_OVERLAY,
    simulation_pb2.SOURCE_LIST,
    simulation_pb2.SOURCE_RERANKED,
)


def taken_ranks(ranked: Ranked) -> Float64Array:
    """Rank of the best taken candidate of each moment from 1, ties in the middle; nan for none."""
    if not len(ranked.sizes_M):
        return np.zeros(0)
    starts = np.cumsum(ranked.sizes_M) - ranked.sizes_M
    taken = np.logical_or.reduceat(ranked.labels_S, starts)
    return np.where(taken, middle_ranks(ranked), np.nan)


class Tally:
    """Scores and provenance of every moment, filled in as reports come.

    Args:
        moments: what is ranked.

    Attributes:
        scores: float32 (S,), the scores of each moment's candidates, one moment after the other.
        sources: uint8 (M,), `simulation_pb2.Source`; 0: not ranked yet.
        decisions: uint8 (M,), `simulation_pb2.Decision`.
        ages: uint32 (M,), age of the overlay in events.
        asks: uint32 (M,), number of the ask that the ranking waited for; 0: none was answered.
        bytes_up: uint32 (M,), payload of it, and of what had to follow it, devices to cloud.
        bytes_down: uint32 (M,), the same, cloud to devices.
        seconds: float32 (M,), measured time of each ranking on its device.
        cloud_seconds: float32 (M,), the part of it that was spent on these exchanges.
        exchanges: uint8 (M,), how many these are; each waits for the one before.
        learning_seconds: float32 (M,), measured time of learning after it.
    """

    def __init__(self, moments: Moments) -> None:
        count = len(moments)
        self._moments = moments
        self._ends = np.cumsum(moments.sizes)
        self.scores: Float32Array = np.full(len(moments.candidates), np.nan, np.float32)
        self.sources: NDArray[np.uint8] = np.zeros(count, np.uint8)
        self.decisions: NDArray[np.uint8] = np.zeros(count, np.uint8)
        self.ages: NDArray[np.uint32] = np.zeros(count, np.uint32)
        self.asks: NDArray[np.uint32] = np.zeros(count, np.uint32)
        self.bytes_up: NDArray[np.uint32] = np.zeros(count, np.uint32)
        self.bytes_down: NDArray[np.uint32] = np.zeros(count, np.uint32)
        self.seconds: Float32Array = np.zeros(count, np.float32)
        self.cloud_seconds: Float32Array = np.zeros(count, np.float32)
        self.exchanges: NDArray[np.uint8] = np.zeros(count, np.uint8)
        self.learning_seconds: Float32Array = np.zeros(count, np.float32)

    @property
    def ranked(self) -> NDArray[np.bool_]:
        """Which moments have a ranking, (M,)."""
        return self.sources > 0

    def enter(self, first: int, report: Rankings) -> Int64Array:
        """Put a report of the round that begins at moment ``first`` in its places.

        Returns:
            int64 (K,), the moments that it was about.

        Raises:
            RunFailed: the report does not fit the moments.
        """
        about = np.fromiter(report.moments, np.int64) + first
        scores = np.frombuffer(report.scores, "<f4")
        self._check(about, scores, report)
        self.scores[self._places(about)] = scores
        for facts, told in self._facts(report):
            facts[about] = np.fromiter(told, facts.dtype)
        return about

    def evaluated(self) -> Ranked:
        """Every ranked moment with its scores, in order of time, as metrics want them."""
        log = self._moments
        if self.ranked.all():  # what is large is not copied
            return Ranked(log.user, log.sizes, log.labels, self.scores)
        return self.evaluated_at(np.flatnonzero(self.ranked))

    def evaluated_at(self, about: Int64Array) -> Ranked:
        """Some moments with their scores."""
        rows, log = self._places(about), self._moments
        return Ranked(log.user[about], log.sizes[about], log.labels[rows], self.scores[rows])

    @property
    def asked(self) -> int:
        """Number of rankings for which the cloud was asked, answered or not."""
        asking = (simulation_pb2.DECISION_REFRESH, simulation_pb2.DECISION_ASK_CLOUD)
        return int(np.isin(self.decisions, asking).sum())

    def source_counts(self) -> dict[str, int]:
        """How many rankings were made with what."""
        return {name: int((self.sources == number).sum()) for number, name in SOURCES.items()}

    def frame(self) -> pl.DataFrame:
        """A row for each ranked moment, in order of time.

        ``user``, ``seq``, ``at``; ``rank`` of the best taken candidate from 1, the middle one of
        ties, null where nothing was taken; ``source``, ``decision``, ``overlay_age`` in events;
        of the ``exchanges`` that it waited for ``ask``, ``bytes_up``, ``bytes_down``; measured
        ``seconds`` of which ``cloud_seconds`` went by in exchanges, and ``learning_seconds``
        after it; ``scores`` of the moment's candidates as a list, and ``taken``, the places in it
        of what the user took.
        """
        about = np.flatnonzero(self.ranked)
        log, evaluated = self._moments, self.evaluated()
        facts = pl.DataFrame(
            {
                "user": log.user[about],
                "seq": log.seq[about],
                "at": log.at[about],
                "rank": pl.Series(taken_ranks(evaluated), nan_to_null=True),
                "source": self.sources[about],
                "decision": self.decisions[about],
                "overlay_age": self.ages[about],
                "ask": self.asks[about],
                "bytes_up": self.bytes_up[about],
                "bytes_down": self.bytes_down[about],
                "exchanges": self.exchanges[about],
                "seconds": self.seconds[about],
                "cloud_seconds": self.cloud_seconds[about],
                "learning_seconds": self.learning_seconds[about],
            }
        )
        ends = np.cumsum(evaluated.sizes_M)[:-1]
        scores = np.split(evaluated.scores_S, ends)
        taken = [np.flatnonzero(labels) for labels in np.split(evaluated.labels_S, ends)]
        has_age = pl.col("source").is_in(WITH_AGE)
        return facts.with_columns(
            pl.col("source").replace_strict(SOURCES, default=None, return_dtype=pl.String),
            pl.col("decision").replace_strict(DECISIONS, default=None, return_dtype=pl.String),
            pl.when(has_age).then("overlay_age"),
            pl.Series("scores", scores, dtype=pl.List(pl.Float32)),
            pl.Series("taken", taken, dtype=pl.List(pl.Int32)),
            # Lists of one length come out as arrays; a reader should not meet both.
        ).cast({"scores": pl.List(pl.Float32), "taken": pl.List(pl.Int32)})

    def _places(self, about: Int64Array) -> Int64Array:
        """Where in `scores` the candidates of some moments lie, one moment after the other."""
        sizes = self._moments.sizes[about]
        before = np.cumsum(sizes) - sizes
        starts = self._ends[about] - sizes
        places: Int64Array = np.repeat(starts - before, sizes) + np.arange(sizes.sum())
        return places

    def _facts(self, report: Rankings) -> Iterator[tuple[NDArray[Any], Collection[float]]]:
        """The columns that hold one number for each moment, and what a report says for them."""
        yield self.sources, report.sources
        yield self.decisions, report.decisions
        yield self.ages, report.overlay_ages
        yield self.asks, report.asks
        yield self.bytes_up, report.bytes_up
        yield self.bytes_down, report.bytes_down
        yield self.seconds, report.seconds
        yield self.cloud_seconds, report.cloud_seconds
        yield self.exchanges, report.exchanges
        yield self.learning_seconds, report.learning_seconds

    def _check(self, about: Int64Array, scores: Float32Array, report: Rankings) -> None:
        count = len(about)
        lengths = [len(told) for _, told in self._facts(report)]
        if any(length != count for length in lengths):
            raise RunFailed(f"a device reported {count} moments, but {lengths} facts about them")
        if count and not 0 <= about.min() <= about.max() < len(self._moments):
            raise RunFailed("a device reported a moment that is not in the log")
        if len(scores) != self._moments.sizes[about].sum():
            raise RunFailed(f"a device reported {len(scores)} scores for {count} moments")
        if not np.isfinite(scores).all():
            raise RunFailed("a device reported scores that are not finite")
        if self.ranked[about].any():
            raise RunFailed("a device reported a moment twice")
