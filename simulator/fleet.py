"""The processes of a run: the cloud, the devices, a training. Whoever leaves the fleet ends them.

Each process writes to a log file of its own, which is also where its progress is read from. They
are started by command line, so neither torch nor a method ever enters the simulator.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

import psutil

from shared_models.contract.errors import InputError, RunFailed

_CHILD_SETTINGS: Final = {
    # One thread each: more processes than cores would only get in each other's way.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "GRPC_VERBOSITY": "NONE",
}
_POLL: Final = 0.05
_LAST_WORDS: Final = 5.0
_GRACE: Final = 15.0
_ERROR: Final = "error: "
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Process:
    """A process that we started, and the file that it writes to."""

    name: str
    log: Path
    popen: "subprocess.Popen[bytes]"

    @property
    def pid(self) -> int:
        """Its operating-system id."""
        return self.popen.pid

    @property
    def resident_bytes(self) -> int:
        """Its memory in RAM; 0 once it is over."""
        return 0 if self.ended else int(psutil.Process(self.pid).memory_info().rss)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.popen.poll() is not None

    @property
    def last_words(self) -> str:
        """The last line that it wrote."""
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "(it said nothing)")

    def failure(self) -> RunFailed | InputError:
        """Why it ended, as it told itself."""
        code, words = self.popen.wait(), self.last_words
        if code == InputError.exit_code and words.startswith(_ERROR):
            return InputError(words.removeprefix(_ERROR))
        how = f"ended ({code})" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
        return RunFailed(f"{self.name} {how}: {words}; its log: {self.log}")


class Fleet:
    """Starts processes, watches them, and ends them; an async context manager."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[Process] = []
        self._completing: list[Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        running = list(self._running)
        try:
            await asyncio.gather(*map(self.stop, running))
        finally:
            for process in running:
                process.popen.kill()

    def start(self, name: str, module: str, *arguments: str) -> Process:
        """Start ``python -m module arguments``; it should run until it is stopped."""
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{name}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_CHILD_SETTINGS},
                # Ctrl-C is for the simulator, which then ends the others in order.
                start_new_session=True,
            )
        process = Process(name, log, popen)
        self._running.append(process)
        return process

    async def stop(self, process: Process) -> None:
        """Ask a process to end, and see to it that it does."""
        process.popen.terminate()
        await self.ended(process)

    async def ended(self, process: Process) -> None:
        """Wait for a process that is about to end; one that does not is killed."""
        for _ in range(int(_GRACE / _POLL)):
            if process.ended:
                break
            await asyncio.sleep(_POLL)
        process.popen.kill()
        process.popen.wait()
        self._running.remove(process)

    async def complete(self, name: str, module: str, *arguments: str) -> AsyncIterator[str]:
        """Run ``python -m module arguments`` to its end, and give its lines as they come.

        Raises:
            InputError: it found its input wrong.
            RunFailed: it ended badly.
        """
        process = self.start(name, module, *arguments)
        self._completing.append(process)
        try:
            lines = _Tail(process.log)
            while not process.ended:
                for line in lines:
                    yield line
                await asyncio.sleep(_POLL)
            for line in lines:
                yield line
        finally:
            await self.stop(process)
            self._completing.remove(process)
        if process.popen.returncode:
            raise process.failure()

    async def line(self, process: Process, start: str, timeout_s: float) -> str:
        """What a process writes after ``start``, as soon as it has.

        Raises:
            RunFailed: it ended, or did not write it within ``timeout_s`` seconds.
        """
        lines = _Tail(process.log)
        for _ in range(int(timeout_s / _POLL)):
            over = process.ended
            for line in lines:
                if line.startswith(start):
                    return line.removeprefix(start).strip()
            if over:
                raise process.failure()
            await asyncio.sleep(_POLL)
        raise RunFailed(f"{process.name} is not ready after {timeout_s:g} s; log: {process.log}")

    async def while_alive(self, work: Coroutine[None, None, T]) -> T:
        """Do ``work``, which ends badly as soon as a process of the fleet does.

        Raises:
            RunFailed: a process ended; the message quotes its last line and names its log.
        """
        task, watch = asyncio.create_task(work), asyncio.create_task(self._watch())
        try:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()
            return await self._explained(task)
        finally:
            for each in (task, watch):
                each.cancel()
            await asyncio.gather(task, watch, return_exceptions=True)

    async def _explained(self, task: "asyncio.Task[T]") -> T:
        try:
            return await task
        except RunFailed:
            # A lost link is often a dying process, and the process's own last words say more.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await self._watch()
            raise

    async def _watch(self) -> None:
        while True:
            self._check()
            await asyncio.sleep(_POLL)

    def _check(self) -> None:
        for process in self._running:
            if process.ended and process not in self._completing:
                raise process.failure()


class _Tail:
    """The complete lines of a growing file that were not given yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = 0

    def __iter__(self) -> Iterator[str]:
        with self._path.open("rb") as file:
            file.seek(self._start)
            data = file.read()
        complete, newline, _ = data.rpartition(b"\n")
        self._start += len(complete) + len(newline)
        yield from complete.decode(errors="replace").splitlines()


def end_like_ctrl_c() -> None:
    """Let a request to end (SIGTERM) do what Ctrl-C does, so that no process is left behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
