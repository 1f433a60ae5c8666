"""SQLite files whose commits survive a killed process and a power cut."""

import sqlite3
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

_IN_MEMORY: Final = ":memory:"


def durable(path: Path, **options: Any) -> sqlite3.Connection:
    """Open ``path``, made where there is none, for one thread at a time.

    Args:
        path: of the file.
        options: for `sqlite3.connect`.

    Raises:
        sqlite3.DatabaseError: there is no such folder, or the file is no database.
    """
    with _turn(path):
        db: sqlite3.Connection = sqlite3.connect(path, check_same_thread=False, **options)
        db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    return db


def _turn(path: Path) -> AbstractContextManager[object]:
    """Processes that open a new file together take turns: its first switch to WAL waits for nobody.

    A lock makes the folders that it needs, which is not ours to do. What is in memory is nobody
    else's.
    """
    alone = str(path) == _IN_MEMORY or not path.parent.is_dir()
    return nullcontext() if alone else FileLock(f"{path}.lock")
