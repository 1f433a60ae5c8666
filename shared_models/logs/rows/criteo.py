"""Criteo's click logs: a label, 13 counts and 26 hashed categories, separated by tabs.

As in the Display Advertising Challenge (Criteo Labs, 2014), whose files have no header. Counts
become ``log(1 + x)``, those below 0 and missing ones 0, as in DLRM's public code.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from shared_models.logs.rows.spec import RowsSpec
from shared_models.logs.tables.lines import Layout, read_lines
from shared_models.logs.tables.rules import binary, hexadecimal_if_any, number_if_any

DENSE: Final = tuple(f"integer {n}" for n in range(1, 14))
CATEGORIES: Final = tuple(f"category {n}" for n in range(1, 27))
LAYOUT: Final = Layout(
    width=40,
    names=dict(enumerate(("label", *DENSE, *CATEGORIES), start=1)),
    rules=(
        binary("label"),
        *map(number_if_any, DENSE),
        *map(hexadecimal_if_any, CATEGORIES),
    ),
)
Vocabulary = Mapping[str, pl.DataFrame]
"""For each category ``value``, and the ``id`` that it has, from 1 on."""


def count_rows(path: Path) -> int:
    """Lines of a file; the last one may lack its end."""
    rows, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            rows, last = rows + block.count(b"\n"), block[-1:]
    return rows + (last != b"\n")


def read_values(path: Path) -> Iterator[pl.DataFrame]:
    """Label and counts as float32, categories as int64, null where there is nothing.

    Raises:
        PathMissing, BadLog, BadValue, TooSmall: it cannot be used; no row is ever skipped.
    """
    for text in read_lines(path, LAYOUT):
        counts = pl.col(DENSE).cast(pl.Float64, strict=False).fill_null(0).clip(lower_bound=0)
        hashes = pl.col(CATEGORIES).str.to_integer(base=16, strict=False, dtype=pl.Int64)
        yield text.select(pl.col("label").cast(pl.Float32), counts.log1p().cast(pl.Float32), hashes)


def vocabulary(frames: Iterator[pl.DataFrame], at_least: int) -> Vocabulary:
    """Numbers for all values that are in so many rows, the most frequent one first."""
    counts: dict[str, list[pl.DataFrame]] = {name: [] for name in CATEGORIES}
    for frame in frames:
        for name, parts in counts.items():
            parts.append(frame[name].drop_nulls().value_counts().rename({name: "value"}))
    return {name: _numbered(parts, at_least) for name, parts in counts.items()}


def _numbered(parts: Sequence[pl.DataFrame], at_least: int) -> pl.DataFrame:
    total = pl.concat(parts).group_by("value").agg(pl.col("count").sum())
    known = total.filter(pl.col("count") >= at_least)
    ordered = known.sort("count", "value", descending=[True, False])
    return ordered.select("value", id=pl.int_range(1, pl.len() + 1))


def encoded(values: pl.DataFrame, spec: RowsSpec, known: Vocabulary | None) -> pl.DataFrame:
    """``values`` with categories numbered; 0 is what is missing or unknown."""
    if known is None:
        ids = (pl.col(CATEGORIES).mod(spec.values - 1) + 1).fill_null(0)
        return values.with_columns(ids)
    for name, table in known.items():
        found = values.select(value=name).join(table, on="value", how="left", maintain_order="left")
        values = values.with_columns(found["id"].fill_null(0).cast(pl.Int64).alias(name))
    return values
