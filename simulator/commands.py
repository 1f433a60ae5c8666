"""Commands that a run starts, on this machine or on another one.

They are started by command line, so neither torch nor a method ever enters the simulator.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from shared_models.contract.processes import resident_bytes

_CHILD_SETTINGS: Final = {
    # One thread each: more processes than cores would only get in each other's way.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "GRPC_VERBOSITY": "NONE",
}
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Running(Protocol):
    """A started command: what `subprocess.Popen` is to us, wherever it runs."""

    pid: int

    @property
    def resident_bytes(self) -> int:
        """Its memory in RAM."""
        ...

    def poll(self) -> int | None:
        """Its exit status; None as long as it runs."""
        ...

    def wait(self) -> int:
        """Wait for its end, and give its exit status."""
        ...

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


Start = Callable[[Sequence[str], Path], Running]
"""Starts a command with these arguments, which then writes to this file."""
Elsewhere = Mapping[str, Start]
"""By module: how to start those whose commands run on another machine."""
HERE: Final[Elsewhere] = MappingProxyType({})


class _Child(subprocess.Popen[bytes]):
    """A command that runs on this machine."""

    @property
    def resident_bytes(self) -> int:
        """Its memory in RAM; 0 once it is over."""
        return 0 if self.poll() is not None else resident_bytes(self.pid)


def started(
    module: str,
    arguments: Sequence[str],
    log: Path,
    elsewhere: Elsewhere = HERE,
    environment: Mapping[str, str] = NOTHING,
) -> Running:
    """Start ``python -m module arguments``, here or elsewhere; it writes to ``log``.

    Only what runs here is told of ``environment``.
    """
    if module in elsewhere:
        return elsewhere[module](arguments, log)
    with log.open("wb") as output:
        return _Child(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_CHILD_SETTINGS, **environment},
            # Ctrl-C is for the simulator, which then ends the others in order.
            start_new_session=True,
        )
