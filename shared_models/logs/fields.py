"""Features of users and items as numbers: every value of every column gets an id of its own.

A column becomes, whichever fits first: eight bins of equal counts, where it is numbers (but for one
cell in twenty at most) with more than `MOST_VALUES` distinct ones; its values, where there are at
most so many; the words in a cell, where there are at most so many (``Comedy Drama`` has two). What
fits none, such as a title, says too little about too few and is left out. Bins come from all rows:
features are known beforehand.
"""

# Shapes: N users or items, M value ids of one of them.

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import polars as pl

from shared_models.contract.features import FieldSpec, LogFields, encode_windows
from shared_models.contract.tensors import Int64Array
from shared_models.logs.prepared import NEIGHBOURS, PreparedLog

MOST_VALUES: Final = 64
_BINS: Final = 8
_STRAY: Final = 0.05
_SEPARATORS: Final = r"[\s|,;]+"


@dataclass(frozen=True, slots=True)
class Fields:
    """Value ids of N users or items.

    Attributes:
        spec: how many values there are, and how many one may have.
        ids: int64 (N, M), padded with 0; of items, row 0 is no item.
    """

    spec: FieldSpec
    ids: Int64Array


def known_fields(log: PreparedLog) -> LogFields:
    """What features a log has."""
    items, users = item_fields(log), user_fields(log)
    return LogFields(items.spec if items else None, users.spec if users else None)


def item_fields(log: PreparedLog) -> Fields | None:
    """The items' features, int64 (V + 1, M); None where the log has none."""
    found = _fields(log.item_table.sort("item").drop("item", "raw"))
    if found is None:
        return None
    return Fields(found.spec, np.vstack([np.zeros_like(found.ids[:1]), found.ids]))


def user_fields(log: PreparedLog) -> Fields | None:
    """The users' features, int64 (U, M); None where the log has none."""
    table = log.user_table.sort("user")
    return _fields(table.drop("user", "raw", NEIGHBOURS, strict=False))


def _fields(table: pl.DataFrame) -> Fields | None:
    columns = [words for name in table.columns if (words := _words(table[name])) is not None]
    if not columns:
        return None
    rows: list[list[int]] = [[] for _ in range(len(table))]
    offset = 0
    for words in columns:
        values = words.explode().drop_nulls().unique().sort()
        number = dict(
            zip(values.to_list(), range(offset + 1, offset + len(values) + 1), strict=True)
        )
        offset += len(values)
        for row, cell in zip(rows, words.to_list(), strict=True):
            row.extend(number[word] for word in cell or () if word is not None)
    most = max(map(len, rows))
    if most == 0:
        return None
    return Fields(FieldSpec(values=offset, most=most), encode_windows(rows, most))


def _words(column: pl.Series) -> pl.Series | None:
    """What stands in each cell, as a list of words; None where the column is of no use."""
    numbers = column.cast(pl.Float64, strict=False)
    is_number = numbers.null_count() <= column.null_count() + len(column) * _STRAY
    if is_number and numbers.n_unique() > MOST_VALUES:
        bins = _bins(numbers)
        return bins.to_frame().select(pl.concat_list(pl.first())).to_series()
    text = column.cast(pl.String)
    if 1 < text.n_unique() <= MOST_VALUES:
        return text.to_frame().select(pl.concat_list(pl.first())).to_series()
    words = text.str.replace_all(_SEPARATORS, " ").str.strip_chars().str.split(" ")
    if 1 < words.explode().n_unique() <= MOST_VALUES:
        return words.list.unique(maintain_order=True)
    return None


def _bins(numbers: pl.Series) -> pl.Series:
    """The interval that each number lies in, as text; null where there is none."""
    known = numbers.fill_nan(None).drop_nulls().to_numpy()
    edges = np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS))
    # Values are numbered in the order of these texts, so they are part of what a model learnt.
    bounds = ["-inf", *(np.format_float_positional(edge, trim="-") for edge in edges), "inf"]
    names = pl.Series([f"({low}, {high}]" for low, high in pairwise(bounds)])
    found = names.gather(np.searchsorted(edges, numbers.fill_null(0).to_numpy()))
    return found.set(numbers.is_null() | numbers.is_nan().fill_null(value=False), None)
