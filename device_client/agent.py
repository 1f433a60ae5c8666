"""Takes a simulation's orders. It stands where in production the app is; devices do not see it.

The order for a moment holds the candidates and what the user took. The device is asked to rank the
first, and learns the second only afterwards.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from grpc import aio

from device_client.channel import (
    CONTROL_MESSAGE_BYTES,
    LOST,
    error_of_call,
    open_channel,
    wait_until_ready,
)
from device_client.host import Host
from device_client.settings import DeviceSettings
from protos.v1 import simulation_pb2 as plane
from protos.v1.simulation_pb2_grpc import SimulationStub
from shared_models.contract.errors import BadSetting, ConcertoError, RunFailed
from shared_models.contract.events import Event
from shared_models.contract.ranking import Ranking, Source
from shared_models.contract.settings import validated

if TYPE_CHECKING:
    from protos.v1.simulation_pb2_grpc import SimulationAsyncStub

_REPORTED: Final = 256
"""Rankings in one report."""
_SOURCES: Final[Mapping[Source, plane.Source.ValueType]] = {
    Source.DEFAULT_WEIGHTS: plane.SOURCE_DEFAULT_WEIGHTS,
    Source.OVERLAY: plane.SOURCE_OVERLAY,
    Source.STALE_OVERLAY: plane.SOURCE_STALE_OVERLAY,
    Source.CLOUD: plane.SOURCE_CLOUD,
}


class Agent:
    """One device process in a simulation.

    Args:
        cloud: address of the cloud.
        simulation: address of the simulator.
        folder: where bundles are kept.
        settings: of this process; a run may change them.
    """

    def __init__(
        self, cloud: str, simulation: str, folder: Path, settings: Mapping[str, Any]
    ) -> None:
        self._cloud, self._simulation, self._folder = cloud, simulation, folder
        self._own_settings = settings
        self._host: Host | None = None
        self._now = 0.0

    async def run(self) -> None:
        """Dial in, and follow orders until told to leave.

        Raises:
            CloudUnavailable: nothing answers there.
            RunFailed: the simulator went away.
        """
        patience = validated(DeviceSettings, "device", self._own_settings).fetch_s
        async with open_channel(self._simulation, CONTROL_MESSAGE_BYTES) as channel:
            await wait_until_ready(channel, self._simulation, patience)
            stub: SimulationAsyncStub = SimulationStub(channel)
            reports = _Reports(stub.Join())
            try:
                await reports.send(joined=plane.Joined(pid=os.getpid()))
                await self._follow(reports)
            except LOST as error:
                raise RunFailed("the simulator went away") from error_of_call(
                    error, self._simulation
                )
            finally:
                await self._leave_run()

    async def _follow(self, reports: "_Reports") -> None:
        async for order in reports.orders():
            try:
                await self._obey(order, reports)
            except ConcertoError as error:
                failure = plane.Failure(code=error.code, message=str(error))
                await reports.send(failure=failure)
                raise

    async def _obey(self, order: plane.Order, reports: "_Reports") -> None:
        match order.WhichOneof("body"):
            case "begin":
                self._host = await self._begin(order.begin)
                manifest = self._host.scorer
                ready = plane.Ready(bundle_id=manifest.bundle_id, provider=manifest.provider)
                await reports.send(ready=ready)
            case "round":
                await self._play(self._running(), order.round, reports)
            case "end":
                host = self._running()
                await host.flush(self._now)
                await reports.send(run_done=_account(host))
                await self._leave_run()

    def _running(self) -> Host:
        if self._host is None:
            raise RunFailed("the simulator ordered a round before a run")
        return self._host

    async def _begin(self, begin: plane.Begin) -> Host:
        try:
            given = json.loads(begin.settings or "{}")
        except ValueError as error:
            raise BadSetting("device", "not JSON") from error
        settings = validated(DeviceSettings, "device", {**self._own_settings, **given})
        host = await Host.start(self._cloud, begin.method, self._folder, settings, waits=True)
        host.adopt({window.user: list(window.items) for window in begin.windows})
        return host

    async def _play(self, host: Host, part: plane.Round, reports: "_Reports") -> None:
        """Rank every moment; users side by side, each user's moments in order."""
        by_user: dict[int, list[plane.Moment]] = {}
        for moment in part.moments:
            by_user.setdefault(moment.user, []).append(moment)
        waiting = iter(by_user.items())
        page = _Page()

        async def worker() -> None:
            for user, moments in waiting:
                for moment in moments:
                    page.add(moment.index, *await self._at(host, user, moment))
                    if len(page) >= _REPORTED:
                        await reports.send(rankings=page.take())

        async with asyncio.TaskGroup() as group:
            for _ in range(min(host.settings.in_flight, len(by_user))):
                group.create_task(worker())
        if len(page):
            await reports.send(rankings=page.take())
        spent = host.ledger.payload()
        done = plane.RoundDone(round=part.number, bytes_up=spent.up, bytes_down=spent.down)
        await reports.send(round_done=done)

    async def _at(self, host: Host, user: int, moment: plane.Moment) -> tuple[Ranking, float]:
        """One moment of one user: rank, and only then see what the user took."""
        client, manifest = host.client(user), host.scorer.manifest
        candidates = (
            np.frombuffer(moment.candidates, "<i4").astype(np.int64)
            if moment.candidates
            else np.arange(1, manifest.features.items + 1)
        )
        started = time.perf_counter()
        ranking = await client.rank(candidates, moment.at)
        seconds = time.perf_counter() - started
        for item in moment.outcome:
            client.observe(Event(item, moment.at))
        if manifest.uploads:
            await client.upload(moment.at)
        self._now = max(self._now, moment.at)
        return ranking, seconds

    async def _leave_run(self) -> None:
        if self._host is not None:
            await self._host.close()
            self._host = None


class _Page:
    """Rankings on their way to the simulator, column by column."""

    def __init__(self) -> None:
        self._moments: list[int] = []
        self._scores: list[bytes] = []
        self._sources: list[plane.Source.ValueType] = []
        self._ages: list[int] = []
        self._seconds: list[float] = []

    def __len__(self) -> int:
        return len(self._moments)

    def add(self, index: int, ranking: Ranking, seconds: float) -> None:
        """Write a ranking down."""
        self._moments.append(index)
        self._scores.append(ranking.scores.astype("<f4").tobytes())
        self._sources.append(_SOURCES[ranking.source])
        self._ages.append(ranking.overlay_age or 0)
        self._seconds.append(seconds)

    def take(self) -> plane.Rankings:
        """What was written since the last time."""
        full = plane.Rankings(
            moments=self._moments,
            scores=b"".join(self._scores),
            sources=self._sources,
            overlay_ages=self._ages,
            seconds=self._seconds,
        )
        for column in (self._moments, self._scores, self._sources, self._ages, self._seconds):
            column.clear()
        return full


class _Reports:
    """The stream to the simulator: orders come one by one, reports of many tasks go in turn."""

    def __init__(self, call: "aio.StreamStreamCall[plane.Report, plane.Order]") -> None:
        self._call, self._turn = call, asyncio.Lock()

    async def send(self, **body: Any) -> None:
        async with self._turn:
            await self._call.write(plane.Report(**body))

    async def orders(self) -> AsyncIterator[plane.Order]:
        """Orders, until one says to leave or the simulator hangs up."""
        while isinstance(order := await self._call.read(), plane.Order):
            if order.HasField("leave"):
                return
            yield order


def _account(host: Host) -> plane.RunDone:
    return plane.RunDone(
        traffic=list(_traffic(host)),
        modules=sorted({name.partition(".")[0] for name in sys.modules}),
        resident_bytes=resident_bytes(),
        observed=[plane.UserCount(user=u, count=n) for u, n in host.observed().items() if n],
    )


def _traffic(host: Host) -> Iterator[plane.Traffic]:
    for user, purpose, count in host.ledger:
        yield plane.Traffic(
            user=user, purpose=purpose, bytes_up=count.up, bytes_down=count.down, asks=count.asks
        )


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
