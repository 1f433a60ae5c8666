"""The memory in a file: what it finds there again, who may share it, and which files it refuses."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cloud_server.memory.sqlite import SqliteMemory
from shared_models.contract.errors import BadAsk, BadSetting
from shared_models.contract.manifest import MemorySpec
from shared_models.contract.tensors import Float32Array

ROOT = Path(__file__).parents[3]
TASTE = MemorySpec(name="taste", width=8)
PUTS, USERS = 100, 16
WRITER = f"""
import sys
from pathlib import Path
import numpy as np
from cloud_server.memory.sqlite import SqliteMemory
from shared_models.contract.manifest import MemorySpec
print("ready", flush=True)
sys.stdin.readline()
memory = SqliteMemory(Path(sys.argv[1]), [MemorySpec(name="taste", width=8)])
for number in range({PUTS}):
    mark = np.float32(int(sys.argv[2]) + number)
    print(*memory.put("taste", np.arange({USERS}), np.full(({USERS}, 8), mark), 1))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.sqlite"


@pytest.fixture
def memory(path: Path) -> Iterator[SqliteMemory]:
    memory = SqliteMemory(path, [TASTE])
    yield memory
    memory.close()


def tastes(*numbers: float) -> Float32Array:
    """One taste for each number, which fills it."""
    return np.repeat(np.array(numbers, np.float32)[:, None], 8, axis=1)


def test_what_was_put_is_there_after_reopening(path: Path, memory: SqliteMemory) -> None:
    memory.put("taste", np.array([4, 2]), tastes(1, 2), 1)
    memory.put("taste", np.array([4]), tastes(3), 2)
    memory.close()

    again = SqliteMemory(path, [TASTE])

    own = again.get("taste", np.array([2, 4]))
    assert (own.values[:, 0].tolist(), own.versions.tolist()) == ([2, 3], [1, 2])
    seen = again.neighbours("taste", np.array([2, 4]), 2)
    assert (seen.values[:, 0].tolist(), seen.versions.tolist()) == ([2, 1], [1, 1])
    with pytest.raises(BadAsk, match="round 1 is over"):
        again.put("taste", np.array([4]), tastes(5), 1)
    again.close()


def test_one_file_may_hold_the_vectors_of_several_memories(
    path: Path, memory: SqliteMemory
) -> None:
    other = SqliteMemory(path, [MemorySpec(name="group", width=3), TASTE])
    other.put("group", np.array([1]), np.ones((1, 3), np.float32), 1)
    other.put("taste", np.array([1]), tastes(2), 1)
    other.close()

    assert memory.get("taste", np.array([1])).values[0].tolist() == [2] * 8


def test_another_width_than_the_stored_one_is_named(path: Path, memory: SqliteMemory) -> None:
    with pytest.raises(BadSetting, match=r"memory\.sqlite holds 'taste' of width 8, not 16"):
        SqliteMemory(path, [MemorySpec(name="new", width=4), MemorySpec(name="taste", width=16)])

    found = SqliteMemory(path, [MemorySpec(name="new", width=5), TASTE])
    found.close()


def test_every_write_reaches_the_disk(memory: SqliteMemory) -> None:
    full = 2

    assert memory._db.execute("PRAGMA synchronous").fetchone() == (full,)
    assert memory._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_write_is_one_commit_that_holds_the_file_from_its_start(memory: SqliteMemory) -> None:
    statements: list[str] = []
    memory._db.set_trace_callback(statements.append)

    memory.put("taste", np.arange(64), tastes(*range(64)), 1)

    assert [word for word in statements if word.startswith(("BEGIN", "COMMIT"))] == [
        "BEGIN IMMEDIATE",
        "COMMIT",
    ]
    assert not memory._db.in_transaction


def test_a_write_waits_for_that_of_another_process(path: Path, memory: SqliteMemory) -> None:
    assert memory._db.execute("PRAGMA busy_timeout").fetchone() == (60_000,)


def test_two_processes_lose_no_write_of_each_other(path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(mark)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for mark in (1000, 2000)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    told = [writer.communicate(timeout=60)[0].splitlines() for writer in writers]

    versions = np.array([line.split() for lines in told for line in lines], np.int64)
    memory = SqliteMemory(path, [TASTE])
    found = memory.get("taste", np.arange(USERS))

    assert (np.sort(versions, axis=0) == np.arange(1, 2 * PUTS + 1)[:, None]).all()
    assert (found.versions == 2 * PUTS).all()
    assert np.unique(found.values).item() in {1000 + PUTS - 1, 2000 + PUTS - 1}
    memory.close()


def test_a_file_that_is_no_memory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)

    with pytest.raises(BadSetting, match=r"notes\.txt cannot be a memory"):
        SqliteMemory(path, [TASTE])


def test_a_file_of_other_tables_is_named(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE specs (hardware TEXT)")
    db.close()

    with pytest.raises(BadSetting, match=r"memory\.sqlite cannot be a memory"):
        SqliteMemory(path, [TASTE])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"away.*cannot be a memory"):
        SqliteMemory(tmp_path / "away" / "memory.sqlite", [TASTE])
