"""What every format of tables gives: who was shown what, after which history."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import polars as pl

from shared_models.logs.tables.lines import Layout

LONGEST: Final = 100
"""Ids of a sequence that are kept: the newest."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """Some rows of a table.

    Attributes:
        rows: ``user``, ``item``, ``label`` int64 and ``history``, a list of int64: the items that
            the user took before, oldest first, without padding. With ``prior`` float64, where the
            table tells it, the logit that a ranker in the cloud gave.
        targets: ``item`` and features, as rows tell of what they show.
        taken: the same, as they tell of histories; null where a feature is unknown.
        users: ``user`` and features, or None.
    """

    rows: pl.DataFrame
    targets: pl.DataFrame
    taken: pl.DataFrame
    users: pl.DataFrame | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """The tables of one original.

    Attributes:
        layout: of lines.
        longest: items of a history, at most.
        parse: what checked rows, as text, come to.
        of_row: exposures that each row becomes.
    """

    layout: Layout
    longest: int
    parse: Callable[[pl.DataFrame], Parsed]
    of_row: int = 1


def ids(column: str) -> pl.Expr:
    """A checked list of ids, padding included, as a list of int64."""
    return pl.col(column).str.split(",").cast(pl.List(pl.Int64), strict=False).list.drop_nulls()


def newest(column: str) -> pl.Expr:
    """The last `LONGEST` ids of a list that are no padding."""
    return ids(column).list.eval(pl.element().filter(pl.element() > 0)).list.tail(LONGEST)


def together(frame: pl.DataFrame, **columns: str) -> pl.DataFrame:
    """Lists of equal length as rows of int64, one for each place that is no padding.

    Args:
        frame: rows as text.
        columns: of ``frame``, by name in the result; that of ``item`` tells what is padding. A 0
            in another one is unknown, and becomes null.
    """
    lists = frame.select(**{ours: ids(theirs) for ours, theirs in columns.items()})
    pairs = lists.explode(*columns).filter(pl.col("item") > 0).unique(maintain_order=True)
    return pairs.with_columns(pl.all().replace(0, None))


def named(column: str) -> pl.Expr:
    """Ids as words: they have no order, and must not be taken for quantities."""
    return pl.format("#{}", column).alias(column)
