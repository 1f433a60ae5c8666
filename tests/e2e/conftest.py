"""Real processes on loopback, over one small trained world."""

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SMALL = ("--log", "synthetic", "--seed", "0", "--set", "train.epochs=3")
METHODS = ("--method", "base", "--method", "duet", "--method", "finetune")
# Short lessons: how well a device learns is no matter of these tests.
COMPARED = (*METHODS, "--set", "finetune.learning.rows=8")
Run = Callable[..., dict[str, Any]]


def command(
    module: str, *arguments: str, cache: Path, timeout: float = 500
) -> subprocess.CompletedProcess[str]:
    """``python -m module arguments``, with a cache of its own."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "CONCERTO_CACHE": str(cache)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def free_addresses(count: int) -> list[str]:
    """Below the ports that the kernel lends by itself, so that nobody is lent one meanwhile."""
    found: list[str] = []
    for port in random.SystemRandom().sample(range(15_200, 30_000), 200):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(f"127.0.0.1:{port}")
        if len(found) == count:
            return found
    raise AssertionError("no port is free")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where prepared logs and trained bundles are kept between the tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def concerto_run(cache: Path) -> Run:
    """``concerto run`` to its end; gives metrics.json."""

    def run(out: Path, *options: str) -> dict[str, Any]:
        done = command("simulator.cli", "run", *SMALL, "--out", str(out), *options, cache=cache)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
        return found

    return run


@pytest.fixture(scope="session")
def compared(concerto_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of base, duet and finetune over four device processes."""
    out = tmp_path_factory.mktemp("runs") / "four"
    concerto_run(out, *COMPARED, "--devices", "4")
    return out
