"""A run's folder as polars frames, for notebooks and for the report.

from simulator.report import load_run

run = load_run("runs/demo")
run.rankings.group_by("entry").agg(polars.col("bytes_down").mean())
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
import yaml

from shared_models.contract.errors import BadLog, PathMissing
from simulator.entries import read_entry
from simulator.ledger import SCHEMA

LISTS: Final = ("scores", "taken")
"""Columns of rankings that hold a list in each row, and most of the bytes."""
# Some damage makes polars panic, which is no `Exception`.
_UNREADABLE: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunData:
    """What a run left.

    Attributes:
        folder: where it lies.
        rankings: of every entry and seed, in order of time in each: ``entry``, ``method``,
            ``seed``, and the columns of `simulator.tally.Tally.frame`.
        ledger: payload bytes, with the columns of `simulator.ledger.SCHEMA` at least.
        tables: every other Parquet file by its name without ending, ``observed`` for one.
        metrics: ``metrics.json``; ``docs/schema/metrics.schema.json`` tells what it holds.
        scenario: ``scenario.yaml``.
        environment: ``environment.json``.
    """

    folder: Path
    rankings: pl.DataFrame
    ledger: pl.DataFrame
    tables: Mapping[str, pl.DataFrame]
    metrics: Json
    scenario: Json
    environment: Json

    @property
    def entries(self) -> tuple[str, ...]:
        """Labels of what was played, in the order of the scenario as far as that names them."""
        labels = list(self.metrics["methods"])
        played = (read_entry(text).label for text in self.scenario.get("methods", ()))
        named = [label for label in played if label in labels]
        return tuple(dict.fromkeys([*named, *labels]))


def load_run(path: str | Path, *, scores: bool = True) -> RunData:
    """Read the folder of a run, also of one that was cut short.

    Args:
        path: the folder.
        scores: False leaves `LISTS` out of the rankings, which saves most of the memory.

    Raises:
        PathMissing: there is no such folder, or no run in it.
        BadLog: a file in it cannot be read.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise PathMissing(folder, "folder of a run")
    metrics = _document(folder / "metrics.json")
    if not isinstance(metrics.get("methods"), dict):
        raise BadLog(f"{folder / 'metrics.json'}: no methods in it; this is no run over a log")
    frames = {file.stem: file for file in sorted(folder.glob("*.parquet"))}
    rankings = [file for name, file in frames.items() if name.startswith("rankings-")]
    others = {name: _frame(file) for name, file in frames.items() if file not in rankings}
    return RunData(
        folder=folder,
        rankings=_all_rankings(rankings, scores=scores),
        ledger=others.pop("ledger", pl.DataFrame(schema=SCHEMA)),
        tables=others,
        metrics=metrics,
        scenario=_document(folder / "scenario.yaml"),
        environment=_document(folder / "environment.json"),
    )


def read_rankings(file: Path, *, scores: bool = True) -> pl.DataFrame:
    """One rankings file, with whose rankings they are: ``entry``, ``method`` and ``seed``.

    Raises:
        BadLog: it cannot be read.
    """
    entry, seed = _whose(file)
    return _frame(file, without=() if scores else LISTS).select(
        pl.lit(entry).alias("entry"),
        pl.lit(entry.partition("[")[0]).alias("method"),
        pl.lit(seed).alias("seed"),
        pl.all(),
    )


def _all_rankings(files: list[Path], *, scores: bool) -> pl.DataFrame:
    if not files:
        return pl.DataFrame(schema={"entry": pl.String, "method": pl.String, "seed": pl.Int64})
    parts = [read_rankings(file, scores=scores) for file in files]
    # Entries that saw other numbers of candidates have lists of other types.
    as_lists = [
        part.with_columns(
            pl.col(name).cast(pl.List(pl.Float32 if name == "scores" else pl.Int64))
            for name in LISTS
            if name in part.columns
        )
        for part in parts
    ]
    return pl.concat(as_lists, how="diagonal_relaxed")


def _whose(file: Path) -> tuple[str, int]:
    """Entry and seed as the file's footer has them; older files say it in their name only."""
    try:
        about = pl.read_parquet_metadata(file)
    except _UNREADABLE as error:
        raise BadLog(f"{file}: not a readable Parquet file") from error
    _, _, named = file.stem.partition("-")
    entry, _, seed = named.rpartition("-")
    try:
        return about.get("entry", entry), int(about.get("seed", seed))
    except ValueError as error:
        raise BadLog(f"{file}: expected a name as in rankings-duet-0.parquet") from error


def _frame(file: Path, without: tuple[str, ...] = ()) -> pl.DataFrame:
    try:
        return pl.scan_parquet(file).drop(without, strict=False).collect()
    except _UNREADABLE as error:
        raise BadLog(f"{file}: not a readable Parquet file") from error


def _document(file: Path) -> Json:
    """A JSON or YAML file that holds names and values."""
    if not file.is_file():
        raise PathMissing(file, "file: is this the folder of a run?")
    try:
        text = file.read_text()
        content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise BadLog(f"{file}: not readable as {file.suffix[1:]}") from error
    if not isinstance(content, dict):
        raise BadLog(f"{file}: expected names and values")
    return content
