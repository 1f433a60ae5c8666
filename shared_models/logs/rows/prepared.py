"""Prepared rows: a folder of Parquet files that every process of a training reads its part of.

``rows.json`` says what there is; ``train-00000.parquet``, ... and ``test-00000.parquet``, ... hold
the columns ``label``, dense features (float32) and categories (int64, or lists of it), in this
order, under the names that the source has for them.
"""

# Shapes: R rows of a file, B rows of a batch, N dense features, T categories.

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from shared_models.contract.errors import BadLog, PathMissing
from shared_models.contract.tensors import Float32Array, Int64Array

ABOUT: Final = "rows.json"
FORMAT: Final = 1
Part = Literal["train", "test"]


class RowsManifest(BaseModel):
    """What prepared rows say of themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    name: str
    dense: tuple[str, ...]
    values: Mapping[str, int]
    """Of each category, in the order of the columns."""
    rows: Mapping[Part, tuple[int, ...]]
    """Of each file."""
    encoding: str
    """Names how categories were numbered: a model fits rows of the same encoding alone."""
    hash: str
    """Names the content."""


@dataclass(frozen=True, slots=True)
class Bag:
    """One category of R rows: ids one row after the other, and how many each row has."""

    ids: Int64Array
    sizes_R: Int64Array | None

    def of(self, row_B: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Ids and sizes of some rows."""
        if self.sizes_R is None:
            return self.ids[row_B], np.ones(len(row_B), np.int64)
        start_R = np.cumsum(self.sizes_R) - self.sizes_R
        sizes_B = self.sizes_R[row_B]
        before_B = np.cumsum(sizes_B) - sizes_B
        place = np.arange(sizes_B.sum()) + np.repeat(start_R[row_B] - before_B, sizes_B)
        return self.ids[place], sizes_B


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows in memory.

    Attributes:
        label_R: float32.
        dense_RN: float32.
        bags: of the categories that were asked for.
    """

    label_R: Float32Array
    dense_RN: Float32Array
    bags: Sequence[Bag]

    def __len__(self) -> int:
        return len(self.label_R)

    @property
    def single(self) -> bool:
        """Whether each bag has one id."""
        return all(bag.sizes_R is None for bag in self.bags)


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """Prepared rows on disk."""

    folder: Path
    manifest: RowsManifest

    @property
    def values(self) -> list[int]:
        """Of each category."""
        return list(self.manifest.values.values())

    def read(self, part: Part, number: int, categories: range | None = None) -> Rows:
        """One file, with some of its categories, or all.

        Raises:
            BadLog: it is damaged.
        """
        path = self.folder / file_name(part, number)
        names = list(self.manifest.values)
        if categories is not None:
            names = names[categories.start : categories.stop]
        try:
            frame = pl.read_parquet(path, columns=["label", *self.manifest.dense, *names])
        except (pl.exceptions.PolarsError, OSError) as error:
            raise BadLog(f"{path} is damaged: prepare the rows again") from error
        dense_RN = frame.select(self.manifest.dense).to_numpy()
        return Rows(
            frame["label"].to_numpy(),
            np.ascontiguousarray(dense_RN, np.float32),
            [_bag(frame[name]) for name in names],
        )

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a folder.

        Raises:
            PathMissing, BadLog: there is none, or none of this format.
        """
        if not (folder / ABOUT).is_file():
            raise PathMissing(folder / ABOUT)
        try:
            manifest = RowsManifest.model_validate(json.loads((folder / ABOUT).read_text()))
        except (ValidationError, ValueError) as error:
            raise BadLog(f"{folder / ABOUT}: not the description of prepared rows") from error
        return cls(folder, manifest)


def write_rows(
    folder: Path, about: RowsManifest, frames: Iterable[tuple[Part, pl.DataFrame]]
) -> PreparedRows:
    """Write rows, all or nothing; how many there are is counted here."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    sizes: dict[Part, list[int]] = {"train": [], "test": []}
    try:
        for part, frame in frames:
            if len(frame):
                frame.write_parquet(draft / file_name(part, len(sizes[part])))
                sizes[part].append(len(frame))
        rows: dict[Part, tuple[int, ...]] = {part: tuple(each) for part, each in sizes.items()}
        manifest = about.model_copy(update={"rows": rows})
        (draft / ABOUT).write_text(manifest.model_dump_json(indent=1))
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return PreparedRows(folder, manifest)


def file_name(part: Part, number: int) -> str:
    """As in ``train-00000.parquet``."""
    return f"{part}-{number:05d}.parquet"


def _bag(column: pl.Series) -> Bag:
    if column.dtype != pl.List(pl.Int64):
        return Bag(column.to_numpy(), None)
    sizes = column.list.len().cast(pl.Int64).to_numpy()
    return Bag(column.explode().drop_nulls().to_numpy(), sizes)
