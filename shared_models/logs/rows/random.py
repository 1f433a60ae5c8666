"""Random rows, as DLRM's public code draws them: to measure speed, there is nothing to learn."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import polars as pl

from shared_models.contract.tensors import Int64Array
from shared_models.logs.rows.spec import RowsSpec

BLOCK: Final = 65_536
"""Rows that are drawn together."""


def draw(rows: int, dense: int, spec: RowsSpec, seed: int) -> Iterator[pl.DataFrame]:
    """Label and dense features uniform from 0 to 1, and bags of ids that do not repeat.

    Args:
        rows: how many.
        dense: features of each.
        spec: of categories and labels.
        seed: of all of it.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        label = rng.random(count, np.float32)
        columns = {
            "label": np.rint(label) if spec.round_targets else label,
            **{f"dense {n + 1}": rng.random(count, np.float32) for n in range(dense)},
        }
        bags = {
            f"category {n + 1}": _bags(count, values, spec, rng)
            for n, values in enumerate(spec.tables)
        }
        yield pl.DataFrame(columns).with_columns(**bags)


def _bags(rows: int, values: int, spec: RowsSpec, rng: np.random.Generator) -> pl.Series:
    most = min(values, spec.lookups)
    sizes = np.full(rows, most) if spec.fixed else _sizes(rows, most, rng)
    ids = rng.integers(0, values, int(sizes.sum()))
    lists = pl.Series(np.repeat(np.arange(rows), sizes)).to_frame("row").with_columns(id=ids)
    # An id that was drawn twice counts once, so full bags may lack some, as in the original.
    return (
        lists.group_by("row", maintain_order=True)
        .agg(pl.col("id").unique(maintain_order=True))
        .get_column("id")
    )


def _sizes(rows: int, most: int, rng: np.random.Generator) -> Int64Array:
    drawn = np.rint(np.maximum(1.0, rng.random(rows) * most))
    return drawn.astype(np.int64)
