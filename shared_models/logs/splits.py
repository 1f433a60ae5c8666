"""Which events train, which choose, and which are replayed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from shared_models.contract.errors import TooSmall, UnknownName
from shared_models.logs.prepared import PARTS, targets

SplitName = Literal["user-tail", "global-time", "leave-one-out"]
TableSplitName = Literal["rows", "tables"]
TRAIN_SHARE: Final = 0.7
TEST_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Split:
    """A way to cut a log.

    Attributes:
        name: as people choose it.
        shares: what trains, validates and tests, for the protocol's name.
        leaks: what it lets training know that a live system would not.
        part: expression over sorted events that gives 0 (train), 1 (validation) or 2 (test).
    """

    name: SplitName | TableSplitName
    shares: str
    leaks: str
    part: Callable[[], pl.Expr]


def _user_tail() -> pl.Expr:
    """The last fifth of each user's events tests, a tenth before it validates, rounded down."""
    events = pl.len().over("user").cast(pl.Int64)
    left = events - pl.col("seq")
    test, validation = events * 20 // 100, events * 10 // 100
    return pl.when(left <= test).then(2).when(left <= test + validation).then(1).otherwise(0)


def _global_time() -> pl.Expr:
    """Three spans of time, the same for everybody; what happens together stays together."""
    at = pl.col("at")
    first = at.quantile(TRAIN_SHARE, "lower")
    last = at.quantile(1 - TEST_SHARE, "lower")
    return pl.when(at > last).then(2).when(at > first).then(1).otherwise(0)


def _leave_one_out() -> pl.Expr:
    """Each user's last moment tests, the one before validates; fewer than three only train.

    As in SASRec's public code (Kang and McAuley, arXiv:1808.09781).
    """
    last = pl.col("moment").max().over("user")
    left = last - pl.col("moment")
    return pl.when((left > 1) | (last < 3)).then(0).otherwise(2 - left.cast(pl.Int64))


SPLITS: Final[Mapping[str, Split]] = {
    split.name: split
    for split in (
        Split(
            "user-tail",
            "70/10/20",
            "training knows what other users did after a test event's time",
            _user_tail,
        ),
        Split(
            "global-time",
            "70/10/20",
            "nothing: training ends before validation, validation before test",
            _global_time,
        ),
        Split(
            "leave-one-out",
            "all before / last but one / last",
            "training knows what other users did after a test event's time",
            _leave_one_out,
        ),
    )
}


TABLE_SPLITS: Final[Mapping[str, Split]] = {
    split.name: split
    for split in (
        Split(
            "rows",
            "70/10/20",
            "nothing, where the rows of the table are in order of time",
            lambda: pl.col("part"),
        ),
        Split(
            "tables",
            "90 and 10 of all tables but the last / the last",
            "what the tables' own cut leaks",
            lambda: pl.col("part"),
        ),
    )
}
"""Of sources that know the part of every event; people choose them by the number of tables."""


def split_named(name: str) -> Split:
    """Any split that a log may have been cut by."""
    return {**SPLITS, **TABLE_SPLITS}[name]


def cut(events: pl.DataFrame, split: str) -> dict[str, pl.DataFrame]:
    """The parts of ``events`` (sorted by user and seq) by name.

    What one request showed stays together, in the latest part that any of it falls into.

    Raises:
        UnknownName: no such split.
        TooSmall: a part would hold nothing to predict.
    """
    known = TABLE_SPLITS if "part" in events.columns else SPLITS
    if split not in known:
        raise UnknownName("split", split, known)
    marked = events.with_columns(moment=_moment(events)).with_columns(part=known[split].part())
    if "request" in events.columns:
        marked = marked.with_columns(pl.col("part").max().over("user", "request"))
    parts = {
        name: marked.filter(pl.col("part") == number).drop("part", "moment")
        for number, name in enumerate(PARTS)
    }
    empty = [name for name, part in parts.items() if targets(part).is_empty()]
    if empty:
        raise TooSmall(
            f"{len(events)} events leave nothing for {' and '.join(empty)} under {split}: "
            "users need about ten events each"
        )
    return parts


def _moment(events: pl.DataFrame) -> pl.Expr:
    """The number of an event's moment in its user's life, from 1; a request is one moment."""
    first = pl.col("seq")
    if "request" in events.columns:
        first = first.min().over("user", "request")
    return first.rank("dense").over("user").cast(pl.Int64)
