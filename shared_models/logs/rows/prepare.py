"""From a table, or from chance, to prepared rows, kept in a cache by their content."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import polars as pl
from filelock import FileLock

from shared_models.contract.errors import BadSetting, PathMissing, TooSmall
from shared_models.logs.prepare import cache_root
from shared_models.logs.rows import criteo, random
from shared_models.logs.rows.prepared import (
    ABOUT,
    FORMAT,
    Part,
    PreparedRows,
    RowsManifest,
    write_rows,
)
from shared_models.logs.rows.spec import RowsSpec

_TRAIN: Final = 0.8
"""Share of the rows that one table, or chance, trains on."""


def open_or_prepare_criteo(tables: Sequence[Path], spec: RowsSpec) -> PreparedRows:
    """The prepared rows of tables in Criteo's format.

    Args:
        tables: one, whose last fifth is the test part, or several, of which the last one is.
        spec: how categories are numbered.

    Raises:
        InputError: a table cannot be used; the message says why, with row and column.
    """
    digest = hashlib.sha256()
    for table in tables:
        if not table.is_file():
            raise PathMissing(table)
        with table.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    about = spec.model_dump(include={"categories", "values", "at_least"})
    folder, key = _place(f"criteo-{tables[0].stem}", digest.hexdigest(), about)
    with FileLock(folder.parent / ".lock"):
        if not (folder / ABOUT).is_file():
            return _prepare_criteo(tables, spec, folder, key)
    return PreparedRows.open(folder)


def open_or_draw(rows: int, dense: int, spec: RowsSpec, seed: int) -> PreparedRows:
    """Prepared random rows, the last fifth of which is the test part.

    Raises:
        BadSetting: fewer than two.
    """
    if rows < 2:
        raise BadSetting("random", "draw two rows or more: the last fifth is the test part")
    fields = {"tables", "lookups", "fixed", "round_targets"}
    folder, key = _place("random", [rows, dense, seed], spec.model_dump(include=fields))
    with FileLock(folder.parent / ".lock"):
        if not (folder / ABOUT).is_file():
            about = RowsManifest(
                name="random",
                dense=tuple(f"dense {n + 1}" for n in range(dense)),
                values={f"category {n + 1}": count for n, count in enumerate(spec.tables)},
                rows={},
                encoding="as drawn",
                hash=key,
            )
            drawn = random.draw(rows, dense, spec, seed)
            return write_rows(folder, about, _parts(drawn, max(1, int(rows * _TRAIN))))
    return PreparedRows.open(folder)


def _prepare_criteo(tables: Sequence[Path], spec: RowsSpec, folder: Path, key: str) -> PreparedRows:
    counts = [criteo.count_rows(table) for table in tables]
    train = sum(counts[:-1]) or int(counts[0] * _TRAIN)
    if train == 0 or train == sum(counts):
        raise TooSmall(f"{tables[0]}: too few rows to train and to test on")
    known = None
    if spec.categories == "vocabulary":
        known = criteo.vocabulary(_first(_read(tables), train), spec.at_least)
    names = dict.fromkeys(criteo.CATEGORIES, spec.values)
    if known is not None:
        names = {name: 1 + len(table) for name, table in known.items()}
    about = RowsManifest(
        name=folder.name,
        dense=criteo.DENSE,
        values=names,
        rows={},
        encoding=f"hash/{spec.values}" if known is None else f"vocabulary/{key}",
        hash=key,
    )
    numbered = (criteo.encoded(frame, spec, known) for frame in _read(tables))
    return write_rows(folder, about, _parts(numbered, train))


def _read(tables: Sequence[Path]) -> Iterator[pl.DataFrame]:
    for table in tables:
        yield from criteo.read_values(table)


def _first(frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    return (frame for part, frame in _parts(frames, rows) if part == "train")


def _parts(frames: Iterator[pl.DataFrame], train: int) -> Iterator[tuple[Part, pl.DataFrame]]:
    """Frames, of which the first ``train`` rows are to train on."""
    left = train
    for frame in frames:
        yield "train", frame[:left]
        yield "test", frame[left:]
        left = max(0, left - len(frame))


def _place(name: str, content: object, spec: object) -> tuple[Path, str]:
    """Folder in the cache, and the hash that names it."""
    text = json.dumps([FORMAT, content, spec], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()
    root = cache_root() / "rows"
    root.mkdir(parents=True, exist_ok=True)
    return root / f"{name}-{key[:16]}", key
