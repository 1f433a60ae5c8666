"""Where runs are played: one cloud process at a time, device processes for all runs."""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from simulator.cache import CLOUD, Resolved, Trained
from simulator.coordinator import Coordinator, DeviceLink
from simulator.fleet import Fleet, Process
from simulator.replay import Account, Replay

DEVICE: Final = "device_client.cli"
_ANY_PORT: Final = "127.0.0.1:0"
_READY_S: Final = 120.0


@dataclass(slots=True)
class Run:
    """One (method, seed): its model, its replay, and what the devices said at the end.

    Attributes:
        accounts: empty as long as the replay has not come to its end.
        seconds: measured, from the first order to the last word.
    """

    resolved: Resolved
    seed: int
    trained: Trained
    replay: Replay
    accounts: Sequence[Account] = ()
    seconds: float = 0.0

    @property
    def title(self) -> str:
        """As in ``duet (sasrec, seed 0)``."""
        return self.resolved.title(self.seed)


class Stage:
    """Starts what a run needs and plays it; an async context manager that leaves nothing behind.

    Args:
        folder: where logs of processes and the cloud's journals go.
        devices: number of device processes.
        flags: ``path=value`` settings of the serving cloud.
        clock: monotonic seconds, for what is measured.
    """

    def __init__(
        self,
        folder: Path,
        devices: int,
        flags: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._count, self._flags, self._clock = folder, devices, flags, clock
        self._fleet = Fleet(folder / "logs")
        self._coordinator = Coordinator()
        self._open = AsyncExitStack()
        self._cloud_address = _ANY_PORT
        self._devices: list[Process] = []
        self._links: list[DeviceLink] = []
        self.cloud_pids: list[int] = []

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self._fleet)
        await self._open.enter_async_context(self._coordinator)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.__aexit__(kind, error, trace)

    async def play(self, run: Run) -> None:
        """Serve the run's bundle and replay it; fills ``run``.

        Raises:
            RunFailed: a process ended, or said that it cannot go on.
        """
        cloud = await self._serve(run)
        if not self._links:
            await self._gather()
        start = self._clock()
        run.accounts = await self._fleet.while_alive(run.replay.play(self._links))
        run.seconds = self._clock() - start
        await self._fleet.stop(cloud)

    async def dismiss(self) -> None:
        """Let the device processes end by themselves."""
        for link in self._links:
            link.leave()
        for process in self._devices:
            await self._fleet.ended(process)

    async def _serve(self, run: Run) -> Process:
        name = f"{run.resolved.method}-{run.seed}"
        journal = self._folder / "journals" / name / "journal.sqlite"
        # What an earlier run stored is not this one's past.
        shutil.rmtree(journal.parent, ignore_errors=True)
        journal.parent.mkdir(parents=True)
        cloud = self._fleet.start(
            f"cloud-{name}",
            CLOUD,
            "serve",
            "--bundles",
            str(run.trained.bundles),
            "--listen",
            self._cloud_address,
            "--journal",
            str(journal),
            *(part for flag in self._flags for part in ("--set", flag)),
        )
        self.cloud_pids.append(cloud.pid)
        # Devices know one address: every cloud of this stage takes the first one's.
        self._cloud_address = await self._fleet.line(cloud, "listening on ", _READY_S)
        return cloud

    async def _gather(self) -> None:
        places = ("--cloud", self._cloud_address, "--simulation", self._coordinator.address)
        self._devices = [
            self._fleet.start(f"device-{index}", DEVICE, "run", *places)
            for index in range(self._count)
        ]
        self._links = await self._fleet.while_alive(self._coordinator.gathered(self._count))
