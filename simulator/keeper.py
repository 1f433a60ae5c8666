"""Keeps a run's cloud up: whatever kills it, the next one takes its address, journal and memory."""

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.v1.collaboration_pb2 import ReleasesRequest
from protos.v1.collaboration_pb2_grpc import CollaborationStub
from shared_models.contract.errors import RunFailed
from shared_models.contract.security import ProcessIdentity, dial
from simulator.fleet import Fleet, Process

if TYPE_CHECKING:
    from protos.v1.collaboration_pb2_grpc import CollaborationAsyncStub

FAILPOINTS: Final = "CONCERTO_FAILPOINTS"
_READY_S: Final = 120.0
_POLL: Final = 0.02
_DIALS_S: Final = 1.5
"""A device that lost its cloud dials it each second, and asks nothing in between."""


@dataclass(frozen=True, slots=True)
class Death:
    """A cloud that died.

    Attributes:
        place: the failpoint; empty: it was killed from outside.
        back_s: measured, until the next one answered its first call.
        start_s: the part of it from the start of its process on.
    """

    place: str
    back_s: float
    start_s: float


class CloudKeeper:
    """Starts a cloud, and starts it again.

    Args:
        fleet: where.
        name: of its log files.
        command: module and arguments.
        places: failpoints at which its lives end by themselves, one after the other.
        identity: the simulator's, to ask whether the cloud answers; None: in clear.
        clock: monotonic seconds.

    Attributes:
        deaths: so far.
        resident: of every life, bytes when it was last looked at, by process id.
    """

    def __init__(
        self,
        fleet: Fleet,
        name: str,
        command: Sequence[str],
        places: Iterable[str] = (),
        identity: ProcessIdentity | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet, self._name, self._command, self._clock = fleet, name, list(command), clock
        self._places, self._armed = deque(places), ""
        self._identity = identity
        self._lives, self._back_at = 0, -_DIALS_S
        self._turn = asyncio.Lock()
        self.deaths: list[Death] = []
        self.resident: dict[int, int] = {}
        self.address = ""
        self.process: Process | None = None

    @property
    def unreached(self) -> list[str]:
        """Failpoints to which no life came."""
        return [name for name in (self._armed, *self._places) if name]

    async def start(self) -> str:
        """Start the first one; gives its address once it listens.

        Raises:
            RunFailed: it ended otherwise than where it should.
        """
        async with self._turn:
            await self._raise()
        return self.address

    async def kill(self) -> Death:
        """Kill the cloud, and start another one; back once it answers."""
        async with self._turn:
            assert self.process is not None  # noqa: S101 - it was started
            self._fleet.kill(self.process)
            return await self._again("")

    async def up(self) -> None:
        """Wait until the cloud is there, and devices have dialled it, if it has just died."""
        while True:
            async with self._turn:
                if self.process is not None and not self.process.ended:
                    break
            await asyncio.sleep(_POLL)
        await asyncio.sleep(max(0.0, self._back_at + _DIALS_S - self._clock()))

    async def watch(self) -> None:
        """For ever, start another cloud when one has died where it should.

        Raises:
            RunFailed: it ended otherwise.
        """
        while True:
            await asyncio.sleep(_POLL)
            async with self._turn:
                if self.process is not None and self.process.ended:
                    self._died_where_it_should(self.process)
                    await self._again(self._fallen())

    async def stop(self) -> None:
        """Ask the cloud to end; it may die on the way, where it should."""
        async with self._turn:
            process = self.process
            assert process is not None  # noqa: S101 - it was started
            self.resident[process.pid] = process.resident_bytes
            await self._fleet.stop(process)
            if process.popen.poll() == -signal.SIGKILL and self._armed:
                self.deaths.append(Death(self._fallen(), 0.0, 0.0))

    async def _again(self, place: str) -> Death:
        died = self._clock()
        started = await self._raise()
        await self._answers()
        self._back_at = now = self._clock()
        death = Death(place, now - died, now - started)
        self.deaths.append(death)
        return death

    async def _answers(self) -> None:
        """Wait until the cloud answers a call, or has died again."""
        process = self.process
        assert process is not None  # noqa: S101 - it was started
        async with dial(self.address, self._identity) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not process.ended:
                try:
                    await stub.Check(health_pb2.HealthCheckRequest(), timeout=_READY_S)
                except aio.AioRpcError:
                    await asyncio.sleep(_POLL)
                else:
                    return

    async def _raise(self) -> float:
        """Start clouds until one listens; when it was started."""
        while True:
            self._armed = self._armed or (self._places.popleft() if self._places else "")
            self._lives += 1
            name = self._name if self._lives == 1 else f"{self._name}.{self._lives}"
            started = self._clock()
            environment = {FAILPOINTS: self._armed}
            self.process = self._fleet.start(name, *self._command, environment=environment)
            self._fleet.excuse(self.process)
            self.resident[self.process.pid] = 0
            try:
                self.address = await self._fleet.line(self.process, "listening on ", _READY_S)
            except RunFailed:
                if not self.process.ended:
                    raise
                self._died_where_it_should(self.process)
                self.deaths.append(Death(self._fallen(), 0.0, 0.0))
                continue
            # Whoever comes later finds it where the first one was.
            self._command[self._command.index("--listen") + 1] = self.address
            return started

    def _died_where_it_should(self, process: Process) -> None:
        """Take leave of a process that has ended.

        Raises:
            RunFailed: nobody wanted it to.
        """
        if not self._armed or process.popen.poll() != -signal.SIGKILL:
            raise process.failure()
        self._fleet.forget(process)

    def _fallen(self) -> str:
        place, self._armed = self._armed, ""
        return place


async def announced(address: str, device: ProcessIdentity | None, method: str) -> str:
    """What a cloud tells devices to run; one that is down is asked again once it is back.

    Raises:
        RunFailed: it did not come back, or does not tell.
    """
    try:
        async with asyncio.timeout(_READY_S), dial(address, device) as channel:
            stub: CollaborationAsyncStub = CollaborationStub(channel)
            while True:
                try:
                    async for release in stub.WatchReleases(ReleasesRequest(method=method)):
                        return release.bundle_id
                except aio.AioRpcError as error:
                    if error.code() is not StatusCode.UNAVAILABLE:
                        raise RunFailed(f"the cloud does not tell: {error.details()}") from error
                await asyncio.sleep(_POLL)
    except TimeoutError as error:
        raise RunFailed(f"the cloud at {address} announces nothing") from error
