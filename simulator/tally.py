"""What devices reported of one run, kept in the order of the log's moments.

Each ranking has its place from the start, so the result does not depend on how many processes
reported, or in which order: metrics taken from it are the same to the last bit.
"""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from protos.v1 import simulation_pb2
from protos.v1.simulation_pb2 import Rankings
from shared_models.contract.errors import RunFailed
from shared_models.contract.ranking import Source
from shared_models.contract.tensors import Float32Array, Int64Array

# Shapes: M moments, S candidates of all moments together, K moments of one report.

SOURCES: Final[dict[int, str]] = {
    simulation_pb2.SOURCE_DEFAULT_WEIGHTS: Source.DEFAULT_WEIGHTS.value,
    simulation_pb2.SOURCE_OVERLAY: Source.OVERLAY.value,
    simulation_pb2.SOURCE_STALE_OVERLAY: Source.STALE_OVERLAY.value,
    simulation_pb2.SOURCE_CLOUD: Source.CLOUD.value,
}
WITH_OVERLAY: Final = (simulation_pb2.SOURCE_OVERLAY, simulation_pb2.SOURCE_STALE_OVERLAY)


class Tally:
    """Scores and provenance of every moment, filled in as reports come.

    Attributes:
        scores: float32 (S,), the scores of each moment's candidates, one moment after the other.
        sources: uint8 (M,), `simulation_pb2.Source`; 0: not ranked yet.
        ages: uint32 (M,), age of the overlay in events.
        seconds: float32 (M,), measured time of each ranking on its device.
    """

    def __init__(self, sizes: Int64Array) -> None:
        self.sizes = sizes.astype(np.int64)
        self.ends = np.cumsum(self.sizes)
        self.scores: Float32Array = np.full(int(self.sizes.sum()), np.nan, np.float32)
        self.sources: NDArray[np.uint8] = np.zeros(len(sizes), np.uint8)
        self.ages: NDArray[np.uint32] = np.zeros(len(sizes), np.uint32)
        self.seconds: Float32Array = np.zeros(len(sizes), np.float32)

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
        moments_K = np.fromiter(report.moments, np.int64) + first
        scores = np.frombuffer(report.scores, "<f4")
        self._check(moments_K, scores, report)
        self.scores[self.places(moments_K)] = scores
        self.sources[moments_K] = np.fromiter(report.sources, np.uint8)
        self.ages[moments_K] = np.fromiter(report.overlay_ages, np.uint32)
        self.seconds[moments_K] = np.fromiter(report.seconds, np.float32)
        return moments_K

    def places(self, moments_K: Int64Array) -> Int64Array:
        """Where in `scores` the candidates of some moments lie, one moment after the other."""
        sizes_K = self.sizes[moments_K]
        before_K = np.cumsum(sizes_K) - sizes_K
        starts_K = self.ends[moments_K] - sizes_K
        places: Int64Array = np.repeat(starts_K - before_K, sizes_K) + np.arange(sizes_K.sum())
        return places

    def source_counts(self) -> dict[str, int]:
        """How many rankings were made with what."""
        return {name: int((self.sources == number).sum()) for number, name in SOURCES.items()}

    def frame(self) -> pl.DataFrame:
        """A row for each moment: source, overlay_age, seconds, and scores as a list."""
        moment_S = np.repeat(np.arange(len(self.sizes)), self.sizes)
        scores = pl.DataFrame({"moment": moment_S, "scores": self.scores})
        facts = pl.DataFrame({"source": self.sources, "age": self.ages, "seconds": self.seconds})
        with_overlay = pl.col("source").is_in(WITH_OVERLAY)
        return facts.select(
            pl.col("source").replace_strict(SOURCES, default=None, return_dtype=pl.String),
            pl.when(with_overlay).then("age").alias("overlay_age"),
            "seconds",
            scores.group_by("moment", maintain_order=True).agg("scores")["scores"],
        )

    def _check(self, moments_K: Int64Array, scores: Float32Array, report: Rankings) -> None:
        count = len(moments_K)
        lengths = (len(report.sources), len(report.overlay_ages), len(report.seconds))
        if any(length != count for length in lengths):
            raise RunFailed(f"a device reported {count} moments, but {lengths} facts about them")
        if count and not 0 <= moments_K.min() <= moments_K.max() < len(self.sizes):
            raise RunFailed("a device reported a moment that is not in the log")
        if len(scores) != self.sizes[moments_K].sum():
            raise RunFailed(f"a device reported {len(scores)} scores for {count} moments")
