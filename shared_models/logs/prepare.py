"""From a name or a file to a prepared log, kept in a cache by its content."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from filelock import FileLock

from shared_models.contract.errors import BadSetting, PathMissing, UnknownName
from shared_models.logs.files import Columns, read_file
from shared_models.logs.movielens import read_movielens
from shared_models.logs.prepared import ABOUT, PARTS, PreparedLog, open_log, write_log
from shared_models.logs.source import Source, numbered
from shared_models.logs.splits import SPLITS, cut, split_named
from shared_models.logs.tables.read import FORMATS, read_tables
from shared_models.logs.worlds.activity import ActivityWorld, read_activity
from shared_models.logs.worlds.groups import World, read_synthetic
from shared_models.logs.worlds.memory import MemoryWorld, read_memory
from shared_models.logs.worlds.sessions import SessionWorld, read_sessions
from shared_models.logs.worlds.trend import TrendWorld, read_trend

__all__ = [
    "FORMATS",
    "SOURCES",
    "Columns",
    "cache_root",
    "open_or_prepare",
    "open_or_prepare_tables",
    "prepare",
]

SOURCES: Final[Mapping[str, Callable[[], Source]]] = {
    "movielens-100k": lambda: read_movielens(cache_root()),
    "synthetic": lambda: read_synthetic(World()),
    "synthetic-activity": lambda: read_activity(ActivityWorld()),
    "synthetic-memory": lambda: read_memory(MemoryWorld()),
    "synthetic-sessions": lambda: read_sessions(SessionWorld()),
    "synthetic-trend": lambda: read_trend(TrendWorld()),
}


def cache_root() -> Path:
    """``$CONCERTO_CACHE``, or the user's own cache folder."""
    return Path(os.environ.get("CONCERTO_CACHE") or Path.home() / ".cache" / "concerto")


def open_or_prepare(log: str, columns: Columns, split: str) -> PreparedLog:
    """The prepared log of a known name, of a file, or of a folder that is one already.

    Args:
        log: one of `SOURCES`, a CSV or Parquet file, or a prepared log's folder.
        columns: which columns of a file hold what.
        split: ``user-tail``, ``global-time`` or ``leave-one-out``; a prepared log has its own.

    Raises:
        InputError: the log cannot be used; the message says why and what to do.
    """
    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS)
    path = Path(log)
    if path.is_dir():
        return open_log(path)
    return _kept(source_of(log, columns), split)


def open_or_prepare_tables(
    tables: Sequence[Path], form: str, *, shifted: bool = False
) -> PreparedLog:
    """The prepared log of tables in the format of a method's original.

    Args:
        tables: one, cut by its rows, or several, of which the last one is the test part.
        form: one of `FORMATS`.
        shifted: whether sequences add 1 to every id, where the format leaves that open.

    Raises:
        InputError: a table cannot be used; the message says why and what to do.
    """
    name = f"{form}-shifted" if shifted else form
    if name not in FORMATS:
        raise BadSetting("shifted-sequences", f"{form} has the same ids in targets and sequences")
    split = "rows" if len(tables) == 1 else "tables"
    return _kept(read_tables(tables, FORMATS[name]), split)


def _kept(source: Source, split: str) -> PreparedLog:
    """The prepared log of ``source``, out of the cache if its like is there."""
    root = cache_root() / "logs"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"), TemporaryDirectory(dir=root, prefix=".") as place:
        draft = prepare(source, split, Path(place) / "draft")
        folder = root / f"{source.name}-{split}-{draft.hash[:16]}"
        if not (folder / ABOUT).is_file():
            draft.folder.rename(folder)
    return open_log(folder)


def source_of(log: str, columns: Columns) -> Source:
    """Read a known log or a file."""
    if log in SOURCES:
        return SOURCES[log]()
    path = Path(log)
    if not path.suffix and not path.exists():
        raise UnknownName("log", log, SOURCES)
    if not path.exists():
        raise PathMissing(path)
    return read_file(path, columns)


def prepare(source: Source, split: str, folder: Path) -> PreparedLog:
    """Number, cut and write ``source`` to ``folder``."""
    events, tables = numbered(source)
    parts = cut(events, split)
    about = {
        "name": source.name,
        "task": source.task,
        "split": split,
        "leaks": split_named(split).leaks,
        "truth": dict(source.truth),
    }
    return write_log(folder, {**{part: parts[part] for part in PARTS}, **tables}, about)
