"""The processes of a run: the cloud, the devices, a training. Whoever leaves the fleet ends them.

Each process writes to a log file of its own, which is also where its progress is read from. They
are started by command line, so neither torch nor a method ever enters the simulator.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from shared_models.contract.errors import InputError, RunFailed
from simulator.commands import HERE, NOTHING, Elsewhere, Running, started

_POLL: Final = 0.05
_LAST_WORDS: Final = 5.0
_GRACE: Final = 15.0
_ERROR: Final = "error: "
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Process:
    """A process that we started, the file that it writes to, and its module and arguments."""

    name: str
    log: Path
    popen: Running
    command: tuple[str, ...] = ()

    @property
    def pid(self) -> int:
        """Its operating-system id."""
        return self.popen.pid

    @property
    def resident_bytes(self) -> int:
        """Its memory in RAM; 0 once it is over."""
        return self.popen.resident_bytes

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
        failed = ProcessKilled if code == -signal.SIGKILL else RunFailed
        return failed(f"{self.name} {how}: {words}; its log: {self.log}")


class ProcessKilled(RunFailed):
    """A process was ended from outside, or at a failpoint."""


class Fleet:
    """Starts processes, watches them, and ends them; an async context manager.

    Args:
        logs: folder of the files that they write to.
        elsewhere: modules whose commands run on another machine.
    """

    def __init__(self, logs: Path, elsewhere: Elsewhere = HERE) -> None:
        self._logs, self._elsewhere = logs, elsewhere
        self._running: list[Process] = []
        self._excused: list[Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        running = list(self._running)
        try:
            await asyncio.gather(*map(self.stop, running))
        finally:
            for process in running:
                process.popen.kill()

    def start(
        self, name: str, module: str, *arguments: str, environment: Mapping[str, str] = NOTHING
    ) -> Process:
        """Start ``python -m module arguments``; it should run until it is stopped."""
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{name}.log"
        running = started(module, arguments, log, self._elsewhere, environment)
        process = Process(name, log, running, (module, *arguments))
        self._running.append(process)
        return process

    def excuse(self, process: Process) -> None:
        """From now on the end of ``process`` is expected, and does not end the others."""
        self._excused.append(process)

    def kill(self, process: Process) -> None:
        """End a process as a power cut would: it gets no word, and says none."""
        process.popen.kill()
        process.popen.wait()
        self.forget(process)

    def forget(self, process: Process) -> None:
        """A process is over, and that is known."""
        self._running.remove(process)
        if process in self._excused:
            self._excused.remove(process)

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
        self.forget(process)

    async def complete(
        self, name: str, module: str, *arguments: str, environment: Mapping[str, str] = NOTHING
    ) -> AsyncIterator[str]:
        """Run ``python -m module arguments`` to its end, and give its lines as they come.

        Raises:
            InputError: it found its input wrong.
            RunFailed: it ended badly.
        """
        process = self.start(name, module, *arguments, environment=environment)
        self.excuse(process)
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
        if process.popen.wait():
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
            if process.ended and process not in self._excused:
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
