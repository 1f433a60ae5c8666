"""Where the time of rankings went: device, the cloud's queue, the cloud's work, the way between.

The device measures a whole ranking and, of it, the exchange that it waited for; the cloud measures
how long the ask lay in its queue and how long the work on its batch took. What is left of the
exchange is the way: both network stacks, the link, and the event loops at its ends.
"""

from dataclasses import dataclass
from typing import Final

import polars as pl

from shared_models.contract.traffic import GROUP, RANK, REFRESH

CLOUD_TIMES: Final = ("queue_seconds", "compute_seconds")
_PARTS: Final = {
    "device": pl.col("seconds") - pl.col("cloud_seconds"),
    "queue": pl.col("queue_seconds"),
    "cloud": pl.col("compute_seconds"),
    "transfer": pl.col("cloud_seconds") - pl.col("queue_seconds") - pl.col("compute_seconds"),
}


@dataclass(frozen=True, slots=True)
class Split:
    """Measured seconds of all rankings of a run; None where an exchange is not accounted for."""

    device: float
    queue: float | None
    cloud: float | None
    transfer: float | None


def with_cloud_times(rankings: pl.DataFrame, exchanges: pl.DataFrame | None) -> pl.DataFrame:
    """``rankings`` with the columns ``queue_seconds`` and ``compute_seconds`` (float32).

    Null where there was no exchange, or the cloud did not tell of it.

    Args:
        rankings: as of `Tally.frame`.
        exchanges: of the cloud; None where it left none.
    """
    if exchanges is None:
        told = rankings.with_columns(pl.lit(None, pl.Float32).alias(name) for name in CLOUD_TIMES)
    else:
        asks = exchanges.filter(pl.col("purpose").is_in([REFRESH, GROUP, RANK]))
        # Not strict: an ask with a number that no ranking can have is none of theirs.
        keys = [pl.col(name).cast(rankings.schema[name], strict=False) for name in ("user", "ask")]
        times = asks.select(*keys, *CLOUD_TIMES).unique(["user", "ask"])
        told = rankings.join(times, on=["user", "ask"], how="left", maintain_order="left")
    names = rankings.columns
    place = names.index("cloud_seconds") + 1
    return told.select(*names[:place], *CLOUD_TIMES, *names[place:])


def split_of(rankings: pl.DataFrame) -> Split:
    """What the columns of `with_cloud_times` add up to."""
    sums = rankings.select(
        **{name: part.cast(pl.Float64).sum() for name, part in _PARTS.items()},
        untold=(pl.col("ask") > 0).and_(pl.col("queue_seconds").is_null()).any(),
    ).row(0, named=True)
    if sums.pop("untold"):
        return Split(sums["device"], None, None, None)
    return Split(**sums)
