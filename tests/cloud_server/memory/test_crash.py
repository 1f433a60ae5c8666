"""A cloud that is killed again and again: what it acknowledged is there, to the bit."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cloud_server.memory.sqlite import SqliteMemory
from cloud_server.memory.store import Vectors
from shared_models.contract.manifest import MemorySpec
from shared_models.contract.tensors import Float32Array, Int64Array

ROOT = Path(__file__).parents[3]
TASTE = MemorySpec(name="taste", width=32)
KILLS, FEWEST_PUTS, LONGEST_S = 20, 10, 0.06
BLOCKS, BATCH = 3, 64
ENDLESS = """
import sys
from itertools import count
from pathlib import Path
from cloud_server.memory.sqlite import SqliteMemory
from tests.cloud_server.memory.test_crash import TASTE, acknowledgement, content, users_of
memory = SqliteMemory(Path(sys.argv[1]), [TASTE])
for number in count(int(sys.argv[2])):
    versions = memory.put(TASTE.name, users_of(number), content(number), number)
    print(acknowledgement(number, versions.tolist()), flush=True)
"""


def users_of(number: int) -> Int64Array:
    """Whom put ``number`` is about; the blocks of users take turns."""
    return number % BLOCKS * BATCH + np.arange(BATCH)


def content(number: int) -> Float32Array:
    """What put ``number``, the first being 1, writes; before that there was nothing."""
    noise = np.random.default_rng(max(0, number)).standard_normal((BATCH, TASTE.width), np.float32)
    return noise if number >= 1 else np.zeros_like(noise)


def version(number: int) -> int:
    """Which one of its users' put ``number`` is; 0 before the first."""
    return max(0, (number - 1) // BLOCKS + 1)


def acknowledgement(number: int, versions: list[int]) -> str:
    """What is said of every vector of put ``number``: user, version and seed of its content."""
    rows = zip(users_of(number).tolist(), versions, strict=True)
    return " ".join(f"{user}:{version}:{number}" for user, version in rows)


def killed_life(path: Path, first: int, delay: float) -> list[str]:
    """Write from put ``first`` on; killed ``delay`` seconds after the first ones.

    Returns:
        Every whole line that the writer got out.
    """
    command = [sys.executable, "-c", ENDLESS, str(path), str(first)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(FEWEST_PUTS)]
        time.sleep(delay)
        writer.kill()
        lines += writer.stdout.readlines()
    assert writer.returncode == -signal.SIGKILL
    return [line.removesuffix("\n") for line in lines if line.endswith("\n")]


def assert_is_put(found: Vectors, number: int) -> None:
    assert found.versions.tolist() == [version(number)] * BATCH
    assert found.values.tobytes() == content(number).tobytes()


def assert_holds_exactly(memory: SqliteMemory, puts: int) -> None:
    """Each user has what the last put about them wrote, and before it the one before."""
    for number in range(puts, puts - BLOCKS, -1):
        users = users_of(number)
        assert_is_put(memory.get(TASTE.name, users), number)
        if number > BLOCKS:
            assert_is_put(memory.neighbours(TASTE.name, users, number), number - BLOCKS)


def puts_in(memory: SqliteMemory) -> int:
    """How many puts arrived, by the versions of the first user of each block."""
    return int(memory.get(TASTE.name, np.arange(BLOCKS) * BATCH).versions.sum())


@pytest.mark.slow
def test_no_acknowledged_vector_is_lost_or_torn_however_often_the_cloud_is_killed(
    tmp_path: Path,
) -> None:
    path, rng = tmp_path / "memory.sqlite", np.random.default_rng(0)
    puts, acknowledged = 0, 0
    for delay in rng.uniform(0, LONGEST_S, KILLS):
        lines = killed_life(path, puts + 1, delay)
        last = puts + len(lines)
        assert lines == [
            acknowledgement(number, [version(number)] * BATCH)
            for number in range(puts + 1, last + 1)
        ]

        memory = SqliteMemory(path, [TASTE])
        puts = puts_in(memory)
        # The kill may fall between a commit and the word of it.
        assert puts in {last, last + 1}
        assert_holds_exactly(memory, puts)
        memory.close()
        acknowledged += len(lines) * BATCH

    assert acknowledged >= 10_000
