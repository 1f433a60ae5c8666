"""Logs out of a user's own CSV or Parquet files, with complaints that name the row."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from shared_models.contract.errors import BadLog, BadValue, ColumnMissing, PathMissing, TooSmall
from shared_models.logs.source import Source

_READS: Final = "import sys, polars; polars.read_parquet(sys.argv[1])"


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what; None takes the usual names."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    label: str | None = None
    request: str | None = None


def read_file(path: Path, columns: Columns) -> Source:
    """Read a log file.

    Times are seconds, or dates and times that polars reads. With a label column, rows are shown
    items; rows of one request were shown together (without a request column: those of one user
    and time).

    Raises:
        PathMissing, BadLog, ColumnMissing, BadValue, TooSmall: it cannot be used; the message
            names the file, the row (the header is row 1) and what was expected.
    """
    raw = read_table(path)
    names = {
        "user": columns.user or "user",
        "item": columns.item or "item",
        "at": columns.time or "time",
        **({"label": columns.label} if columns.label else {}),
        **({"request": columns.request} if columns.request else {}),
    }
    for name in names.values():
        if name not in raw.columns:
            raise ColumnMissing(path, name, raw.columns)
    if raw.is_empty():
        raise TooSmall(f"{path}: the log is empty")
    events = raw.select(**{ours: pl.col(theirs) for ours, theirs in names.items()})
    for ours in ("user", "item"):
        unnamed = events[ours].is_null() | (events[ours].cast(pl.String) == "")
        _refuse(path, unnamed, names[ours], "no value")
    events = events.with_columns(at=_seconds(path, events["at"], names["at"]))
    if columns.label:
        events = _with_labels(path, events, names)
    return Source(path.stem, events)


def read_table(path: Path) -> pl.DataFrame:
    """A CSV, every column as text, or a Parquet file.

    Raises:
        PathMissing, BadLog, TooSmall: it is not there, or is no table.
    """
    if not path.is_file():
        raise PathMissing(path)
    try:
        if path.suffix == ".parquet":
            _refuse_deadly(path)
            return pl.read_parquet(path)
        # As text: a guess at types would take 007 for 7, and fail at the first row that differs.
        return pl.read_csv(path, infer_schema=False)
    except pl.exceptions.NoDataError as error:
        raise TooSmall(f"{path}: the file is empty") from error
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise BadLog(f"{path}: neither a CSV with a header nor Parquet: {reason}") from error


def _refuse_deadly(path: Path) -> None:
    """Read a Parquet file in a process of its own first.

    On some damaged files polars panics, and tells the user of its insides, or it asks for memory
    that no machine has, which ends its process.
    """
    tried = subprocess.run([sys.executable, "-c", _READS, path], check=False, capture_output=True)
    if tried.returncode < 0 or b"PanicException" in tried.stderr:
        raise BadLog(f"{path}: the Parquet file is damaged")


def _seconds(path: Path, times: pl.Series, column: str) -> pl.Series:
    if times.dtype == pl.String:
        times = _parsed(times)
    if times.dtype.is_temporal():
        times = times.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    if not times.dtype.is_numeric():
        raise BadValue(path, 2, column, f"expected seconds or a date and time, got {times.dtype}")
    seconds = times.cast(pl.Float64)
    _refuse(
        path, seconds.is_null() | seconds.is_nan() | seconds.is_infinite(), column, "not a time"
    )
    _refuse(path, seconds < 0, column, "a time before 0")
    return seconds


def _parsed(times: pl.Series) -> pl.Series:
    """Text as numbers where it is numbers, else as dates and times; null where it is neither."""
    numbers = times.cast(pl.Float64, strict=False)
    if numbers.null_count() == 0:
        return numbers
    try:
        dates = times.str.to_datetime(strict=False)
    except pl.exceptions.PolarsError:
        return numbers
    return dates if dates.null_count() < numbers.null_count() else numbers


def _with_labels(path: Path, events: pl.DataFrame, names: dict[str, str]) -> pl.DataFrame:
    text = events["label"].cast(pl.String).str.to_lowercase()
    label = text.replace({"true": "1", "false": "0"}).cast(pl.Float64, strict=False)
    _refuse(path, label.is_null() | ~label.is_in([0.0, 1.0]), names["label"], "expected 0 or 1")
    together = ["user", "request"] if "request" in events.columns else ["user", "at"]
    request = events.select(pl.struct(together).rank("dense"))[:, 0]
    return events.with_columns(label=label, request=request)


def _refuse(path: Path, wrong: pl.Series, column: str, problem: str) -> None:
    """Complain about the first row where ``wrong`` is true."""
    rows = wrong.arg_true()
    if len(rows):
        raise BadValue(path, int(rows[0]) + 2, column, problem)
