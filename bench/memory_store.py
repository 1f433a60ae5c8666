"""Vectors a second into the cloud's memory, beside a bare transaction of the same rows.

    python -m bench.memory_store

Each put holds 32 numbers of 64 users out of 10,000, in a round of its own, and ends on the disk.
The bare side has the same pragmas and tables and gets its rows ready made: one upsert for each,
one commit for all, nothing checked and nothing answered; both files end with the same rows. They
lie in the temporary folder: what a commit costs is that disk's, so where it is in memory
(``TMPDIR``) the ratio is that of the computing alone. Rounds take turns, the median counts, and
the exit code is 1 where the target is missed. Takes about half a minute.
"""

import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Final

import numpy as np

from bench.ratios import Ratio, judged, taking_turns
from cloud_server.memory.sqlite import SqliteMemory, _opened
from shared_models.contract.manifest import MemorySpec
from shared_models.contract.tensors import Float32Array, Int64Array

TASTE: Final = MemorySpec(name="taste", width=32)
USERS: Final = 10_000
BATCH: Final = 64
PUTS: Final = 400
RATIO: Final = Ratio("memory", "memory / bare transaction, vectors a second", target=0.5, rounds=9)
UPSERT: Final = """
INSERT INTO vectors VALUES (?, ?, 1, ?, ?, 0, 0, x'')
ON CONFLICT (name, user) DO UPDATE SET
  settled_version = version, settled_round = round, settled_data = data,
  version = version + 1, round = excluded.round, data = excluded.data
"""

Put = tuple[int, Int64Array, Float32Array]
"""A round, users and a vector of each."""


def endless_puts() -> Iterator[Put]:
    """The same for everybody who asks."""
    rng = np.random.default_rng(0)
    for number in count(1):
        users = rng.choice(USERS, BATCH, replace=False)
        yield number, users, rng.standard_normal((BATCH, TASTE.width), np.float32)


def remembered(memory: SqliteMemory, puts: Iterator[Put], many: int = PUTS) -> float:
    """Vectors a second that ``memory`` takes."""
    due = list(islice(puts, many))
    start = time.perf_counter()
    for number, users, vectors in due:
        memory.put(TASTE.name, users, vectors, number)
    return many * BATCH / (time.perf_counter() - start)


def committed(db: sqlite3.Connection, puts: Iterator[Put], many: int = PUTS) -> float:
    """Vectors a second that ``db`` takes."""
    due = [
        [
            (TASTE.name, user, number, vector.tobytes())
            for user, vector in zip(users.tolist(), vectors, strict=True)
        ]
        for number, users, vectors in islice(puts, many)
    ]
    start = time.perf_counter()
    for rows in due:
        with db:
            db.executemany(UPSERT, rows)
    return many * BATCH / (time.perf_counter() - start)


def main() -> int:
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SqliteMemory(Path(folder) / "memory.sqlite", [TASTE])) as memory,
        closing(_opened(Path(folder) / "bare.sqlite")) as db,
    ):
        play = taking_turns(
            partial(remembered, memory, endless_puts()), partial(committed, db, endless_puts())
        )
        # Afterwards most users are there, and a put alters rows as it does in a long life.
        play(0)
        verdict = judged(RATIO, play)
    print(verdict)
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
