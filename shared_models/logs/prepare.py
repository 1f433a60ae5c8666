"""From a name or a file to a prepared log, kept in a cache by its content."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from filelock import FileLock

from shared_models.contract.errors import PathMissing, UnknownName
from shared_models.logs.files import Columns, read_file
from shared_models.logs.movielens import read_movielens
from shared_models.logs.prepared import ABOUT, PARTS, PreparedLog, open_log, write_log
from shared_models.logs.source import Source, numbered
from shared_models.logs.splits import SPLITS, cut
from shared_models.logs.worlds.groups import World, read_synthetic
from shared_models.logs.worlds.memory import MemoryWorld, read_memory
from shared_models.logs.worlds.trend import TrendWorld, read_trend

__all__ = ["SOURCES", "Columns", "cache_root", "open_or_prepare", "prepare"]

SOURCES: Final[Mapping[str, Callable[[], Source]]] = {
    "movielens-100k": lambda: read_movielens(cache_root()),
    "synthetic": lambda: read_synthetic(World()),
    "synthetic-memory": lambda: read_memory(MemoryWorld()),
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
    source = source_of(log, columns)
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
        "leaks": SPLITS[split].leaks,
        "truth": dict(source.truth),
    }
    return write_log(folder, {**{part: parts[part] for part in PARTS}, **tables}, about)
