"""Who gains, and from what: metrics by how active users are, and by how old their overlays were.

Taken from rankings as they are written, so a reader of ``rankings-*.parquet`` finds the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import polars as pl

from shared_models.contract.metrics import (
    Interval,
    Ranked,
    UserMetric,
    bootstrap_interval,
    evaluate,
    mean_over_seeds,
)
from shared_models.contract.tensors import Int64Array

# Shapes: U users, M rankings, S candidates of all rankings together.

METRICS: Final = ("auc", "ndcg@10")
Bounds = tuple[int | None, int | None]
"""Least and greatest value of a group; None: it has no such end."""
AGES: Final[tuple[Bounds, ...]] = ((0, 0), (1, 5), (6, 20), (21, 50), (51, None))
WITHOUT: Final[Bounds] = (None, None)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """Some rankings of one (entry, seed).

    Attributes:
        bounds: of what groups differ in; `WITHOUT` for rankings that have no such value.
        users: how many were ranked for.
        recommendations: number of rankings.
        metrics: those of `METRICS`, by name.
    """

    bounds: Bounds
    users: int
    recommendations: int
    metrics: Mapping[str, UserMetric]


def by_activity(rankings: pl.DataFrame, users: int) -> tuple[Group, ...]:
    """Users in three groups, as equal in size as can be, by their events before the first ranking.

    Users of equal activity stay together, so there may be fewer groups.

    Args:
        rankings: of one (entry, seed), with ``user``, ``seq``, ``scores`` and ``taken``.
        users: of the log, U.
    """
    events = pl.col("seq").min().over("user").alias("events")
    known = rankings.with_columns(events)
    of_users = known.unique("user")["events"].to_numpy()
    cuts = np.quantile(of_users, [0, 1 / 3, 2 / 3, 1], method="lower")
    cuts[0] -= 1
    parts = [
        known.filter(pl.col("events").is_between(low, high, closed="right"))
        for low, high in pairwise(np.unique(cuts).tolist())
    ]
    return tuple(_group(_ends(part["events"]), part, users) for part in parts)


def by_staleness(rankings: pl.DataFrame, users: int) -> tuple[Group, ...]:
    """Rankings by the age of their overlay in events, a group for each bucket of `AGES`.

    Those without overlay are the last group; without any overlay there are no groups.

    Args:
        rankings: of one (entry, seed), with ``user``, ``overlay_age``, ``scores`` and ``taken``.
        users: of the log, U.
    """
    age = pl.col("overlay_age")
    if rankings["overlay_age"].is_null().all():
        return ()
    parts = {ends: rankings.filter(_between(age, ends)) for ends in AGES}
    parts[WITHOUT] = rankings.filter(age.is_null())
    return tuple(_group(ends, part, users) for ends, part in parts.items() if len(part))


def by_span(
    rankings: pl.DataFrame, moment_M: Int64Array, spans: Sequence[tuple[int, int]], users: int
) -> tuple[Group, ...]:
    """Rankings by when they were made; a span without any is left out.

    Args:
        rankings: of one (entry, seed), in order of time, with ``user``, ``scores`` and ``taken``.
        moment_M: the moment of each of them.
        spans: first moment, and the first one after the span.
        users: of the log, U.
    """
    parts = {
        (start, stop - 1): rankings.filter(pl.Series((moment_M >= start) & (moment_M < stop)))
        for start, stop in spans
    }
    return tuple(_group(ends, part, users) for ends, part in parts.items() if len(part))


def over_seeds(by_seed: Sequence[Sequence[Group]]) -> list[Json]:
    """The groups of an entry's seeds as rows of ``metrics.json``, means with intervals over users.

    A bucket that only some seeds have is a mean over those.
    """
    groups: dict[Bounds, list[Group]] = {}
    for group in (group for own in by_seed for group in own):
        groups.setdefault(group.bounds, []).append(group)
    return [_row(groups[bounds]) for bounds in sorted(groups, key=_place)]


def ranked(rankings: pl.DataFrame) -> Ranked:
    """Rankings as `shared_models.contract.metrics` wants them.

    Args:
        rankings: with ``user``, ``scores`` and ``taken``.
    """
    sizes_M, scores = _lists(rankings["scores"], pl.Float32)
    counts_M, places = _lists(rankings["taken"], pl.Int64)
    starts_M = np.cumsum(sizes_M) - sizes_M
    labels_S = np.zeros(len(scores), bool)
    labels_S[np.repeat(starts_M, counts_M) + places.to_numpy()] = True
    return Ranked(rankings["user"].to_numpy(), sizes_M, labels_S, scores.to_numpy())


def as_json(found: Interval, over: UserMetric) -> Json:
    """An estimate with its ends; null is what is not defined.

    Args:
        found: the estimate.
        over: whose users were drawn. One alone is drawn again and again: that shows no chance.
    """
    ends = {"mean": found.mean, "low": found.low, "high": found.high}
    if np.count_nonzero(over.denominator_U) == 1:
        ends |= {"low": np.nan, "high": np.nan}
    return {name: value if np.isfinite(value) else None for name, value in ends.items()}


def _lists(column: pl.Series, kind: type[pl.DataType]) -> tuple[Int64Array, pl.Series]:
    """Lengths of a column's lists, and what is in them, one after the other."""
    lists = column.cast(pl.List(kind))
    return lists.list.len().to_numpy().astype(np.int64), lists.explode().drop_nulls()


def _between(value: pl.Expr, bounds: Bounds) -> pl.Expr:
    least, most = bounds
    return value >= least if most is None else value.is_between(least, most)


def _ends(values: pl.Series) -> Bounds:
    numbers = values.to_list()
    return min(numbers), max(numbers)


def _group(bounds: Bounds, part: pl.DataFrame, users: int) -> Group:
    found = evaluate(ranked(part), users)
    metrics = {name: found[name] for name in METRICS}
    return Group(bounds, part["user"].n_unique(), len(part), metrics)


def _place(bounds: Bounds) -> float:
    least, _ = bounds
    return np.inf if least is None else least


def _row(groups: Sequence[Group]) -> Json:
    """One group, over the seeds that have it."""
    least, most = groups[0].bounds
    return {
        "at_least": least,
        "at_most": most,
        "users": max(group.users for group in groups),
        "recommendations": sum(group.recommendations for group in groups),
        **{name: _interval(groups, name) for name in METRICS},
    }


def _interval(groups: Sequence[Group], name: str) -> Json:
    metric = mean_over_seeds([group.metrics[name] for group in groups])
    if not metric.denominator_U.sum():
        return dict.fromkeys(("mean", "low", "high"))
    return as_json(bootstrap_interval(metric), metric)
