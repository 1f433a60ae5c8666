"""The numbers behind the charts, each a small frame made from a run's rankings.

Long series are thinned here, so that the page stays small: time into `BINS`, distributions into
`LEVELS`.
"""

from typing import Final

import numpy as np
import polars as pl

from shared_models.contract.traffic import GROUP, RANK, REFRESH

BINS: Final = 48
"""Spans of virtual time in a chart of traffic."""
LEVELS: Final = (*(level / 50 for level in range(1, 50)), 0.99, 0.995, 0.999)
"""Quantiles that stand for a distribution of latencies."""
MODELLED: Final = "modelled_"
"""Begins the columns with a ranking's modelled seconds; the link's name follows."""
MEASURED: Final = "measured"
PARTS: Final = ("device", "queue", "cloud", "transfer")
"""Of a ranking's time, in the order in which they are stacked."""
_SPANS: Final = {"days": 86_400.0, "hours": 3_600.0, "minutes": 60.0, "seconds": 1.0}


def links(rankings: pl.DataFrame) -> list[str]:
    """Names of the links that latency was modelled for."""
    found = (name for name in rankings.columns if name.startswith(MODELLED))
    return [name.removeprefix(MODELLED) for name in found]


def time_unit(rankings: pl.DataFrame) -> tuple[str, float]:
    """A unit in which the replay's span of virtual time reads well, and its seconds."""
    start, end = _span(rankings)
    span = end - start
    fits = (unit for unit in _SPANS.items() if span >= 3 * unit[1])
    return next(fits, ("seconds", 1.0))


def traffic(rankings: pl.DataFrame, ledger: pl.DataFrame) -> pl.DataFrame:
    """Payload that rankings waited for over virtual time, as means over seeds.

    The purpose is that of the exchange which a ranking waited for. A refresh fetches slot values
    or, where the ledger has none of these, what a group shares.

    Returns:
        ``entry``, ``time`` at the middle of its span, in `time_unit`, ``purpose``, ``up`` and
        ``down`` in bytes. Spans without traffic have a row too, of zero bytes.
    """
    _, unit = time_unit(rankings)
    start, end = _span(rankings)
    width = max(end - start, 1e-9) / BINS
    place = ((pl.col("at") - start) / width).floor().clip(0, BINS - 1).cast(pl.Int64)
    groups = ledger.group_by(entry="method").agg(
        fetched=pl.when((pl.col("purpose") == REFRESH).any())
        .then(pl.lit(REFRESH))
        .otherwise(pl.lit(GROUP))
    )
    purpose = pl.when(pl.col("decision") == "ask-cloud").then(pl.lit(RANK)).otherwise("fetched")
    asked = (
        rankings.filter(pl.col("bytes_up") + pl.col("bytes_down") > 0)
        .join(groups, on="entry", how="left")
        .with_columns(bin=place, purpose=purpose.fill_null(REFRESH))
    )
    sums = asked.group_by("entry", "purpose", "bin").agg(
        up=pl.col("bytes_up").cast(pl.Int64).sum(), down=pl.col("bytes_down").cast(pl.Int64).sum()
    )
    seeds = rankings.group_by("entry").agg(seeds=pl.col("seed").n_unique())
    every = asked.select("entry", "purpose").unique().join(_all_bins(), how="cross")
    filled = every.join(sums, on=["entry", "purpose", "bin"], how="left").join(seeds, on="entry")
    return filled.select(
        "entry",
        "purpose",
        time=(pl.col("bin") + 0.5) * width / unit,
        up=pl.col("up").fill_null(0) / pl.col("seeds"),
        down=pl.col("down").fill_null(0) / pl.col("seeds"),
    ).sort("entry", "purpose", "time")


def _span(rankings: pl.DataFrame) -> tuple[float, float]:
    """First and last virtual time, in seconds."""
    at = rankings["at"].to_numpy()
    return float(at.min(initial=np.inf)), float(at.max(initial=-np.inf))


def _all_bins() -> pl.DataFrame:
    return pl.DataFrame({"bin": np.arange(BINS)})


def latency_parts(rankings: pl.DataFrame) -> pl.DataFrame:
    """Where the measured time of a mean ranking went: ``entry``, ``part`` of `PARTS`, ``ms``.

    Without the cloud's own figures the whole exchange counts as transfer.
    """
    exchange = pl.col("cloud_seconds")
    queue, cloud = (_seconds(rankings, f"{name}_seconds") for name in ("queue", "compute"))
    parts = {
        "device": pl.col("seconds") - exchange,
        "queue": queue,
        "cloud": cloud,
        "transfer": exchange - queue - cloud,
    }
    means = [(1000 * part.mean().clip(0)).alias(name) for name, part in parts.items()]
    wide = rankings.group_by("entry", maintain_order=True).agg(means)
    return wide.unpivot(list(PARTS), index="entry", variable_name="part", value_name="ms")


def tells_cloud_parts(rankings: pl.DataFrame) -> bool:
    """Whether the cloud said of every exchange how long it queued and computed."""
    asked = rankings.filter(pl.col("cloud_seconds") > 0)
    if "compute_seconds" not in rankings.columns:
        return asked.is_empty()
    return asked["compute_seconds"].null_count() == 0


def _seconds(rankings: pl.DataFrame, name: str) -> pl.Expr:
    return pl.col(name).fill_null(0.0) if name in rankings.columns else pl.lit(0.0)


def latency_curves(rankings: pl.DataFrame) -> pl.DataFrame:
    """Distributions of latency: a ``share`` of rankings took at most so many ``ms``.

    Returns:
        ``entry``, ``link`` (`MEASURED`, or the name of a modelled one), ``share``, ``ms``.
    """
    columns = {MEASURED: "seconds", **{link: MODELLED + link for link in links(rankings)}}
    rows = [
        (entry, link, level, 1000 * value)
        for (entry,), own in rankings.group_by("entry", maintain_order=True)
        for link, column in columns.items()
        for level, value in zip(LEVELS, _quantiles(own[column]), strict=True)
    ]
    schema = {"entry": pl.String, "link": pl.String, "share": pl.Float64, "ms": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").filter(pl.col("ms").is_finite())


def _quantiles(seconds: pl.Series) -> list[float]:
    known = seconds.drop_nulls().to_numpy()
    if not len(known):
        return [np.nan] * len(LEVELS)
    values: list[float] = np.quantile(known, LEVELS).tolist()
    return values


def shares(rankings: pl.DataFrame, column: str) -> pl.DataFrame:
    """How many rankings of an entry have which value: ``entry``, ``kind``, ``count``, ``share``."""
    counts = rankings.group_by("entry", pl.col(column).alias("kind")).len("count")
    share = pl.col("count") / pl.col("count").sum().over("entry")
    return counts.with_columns(share=share).sort("entry", "kind")


def learning(rankings: pl.DataFrame) -> pl.DataFrame:
    """Measured cost of learning on devices, of entries that learn.

    Returns:
        ``entry``, ``steps`` (rankings that were learnt from), ``mean`` and ``p95`` in ms of these.
    """
    learnt = rankings.filter(pl.col("learning_seconds") > 0)
    cost = 1000 * pl.col("learning_seconds")
    return learnt.group_by("entry", maintain_order=True).agg(
        steps=pl.len(), mean=cost.mean(), p95=cost.quantile(0.95, "linear")
    )
