"""The processes of a bench: servers that end with their context, and clients that say one thing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shared_models.contract.errors import RunFailed

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GRPC_VERBOSITY": "NONE"}
_LISTENS = "listening on "
_GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """A process that listens at ``address``."""

    address: str
    pid: int


@contextmanager
def serving(module: str, *arguments: str) -> Iterator[Server]:
    """``python -m module arguments``, once it says where it listens; ended with the context.

    Raises:
        RunFailed: it ended, or said something else first.
    """
    with _started(module, arguments) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe, as asked for
        line = process.stdout.readline().strip()
        if not line.startswith(_LISTENS):
            raise RunFailed(f"{module} does not listen: it said {line!r}")
        yield Server(line.removeprefix(_LISTENS), process.pid)


def told(module: str, *arguments: str, limit_s: float = 60.0) -> dict[str, Any]:
    """What ``python -m module arguments`` prints at its end, one JSON object.

    Raises:
        RunFailed: it ended badly, or not within ``limit_s`` seconds.
    """
    with _started(module, arguments) as process:
        try:
            output, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            raise RunFailed(f"{module} took more than {limit_s:g} s") from error
        if process.returncode:
            raise RunFailed(f"{module} ended with {process.returncode}")
        return dict(json.loads(output))


@contextmanager
def _started(module: str, arguments: tuple[str, ...]) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        # Ctrl-C is for the bench, which then ends the others.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
