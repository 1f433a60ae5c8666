"""Takes a simulation's orders. It stands where in production the app is; devices do not see it.

An order for a moment holds the candidates and what the user took. The device ranks the first, and
learns the second only afterwards. Where nothing was shown, it only learns what was taken.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from grpc import aio

from device_client.channels import OPTIONS
from device_client.classifier import activate_classifier
from device_client.client import DeviceClient
from device_client.control import SHORT_PAGE, Page, Simulation, account, round_done
from device_client.graph_agent import GraphRun, Wires
from device_client.grpc_cloud import GrpcCloud
from device_client.host import Host, fetched, updated
from device_client.ledger import DeviceLedger
from device_client.recorder import recorded
from device_client.scorer import activate
from device_client.settings import DeviceSettings
from device_client.tokens import SimulationTokens, TokenSource, no_token
from protos.v1 import simulation_pb2 as plane
from protos.v1.simulation_pb2_grpc import SimulationStub
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import ConcertoError, InputError, RunFailed
from shared_models.contract.events import Event
from shared_models.contract.log_lines import note
from shared_models.contract.manifest import Task
from shared_models.contract.security import dial
from shared_models.contract.tensors import Int64Array

if TYPE_CHECKING:
    from protos.v1.simulation_pb2_grpc import SimulationAsyncStub

Clock = Callable[[], float]
_log = logging.getLogger(__name__)
_ROUND_BYTES: Final = 256 << 20
"""A round may hold many users' moments; both of its ends are our own processes."""
_OPTIONS: Final = [
    *(option for option in OPTIONS if "message_length" not in option[0]),
    ("grpc.max_receive_message_length", _ROUND_BYTES),
    ("grpc.max_send_message_length", _ROUND_BYTES),
]


class Run:
    """One run of a simulation on this process.

    Args:
        host: the devices.
        cloud: told which round it is.
        ledger: what they spent.
        simulation: where rankings go.
        clock: seconds; measures, never decides.
    """

    def __init__(
        self,
        host: Host,
        cloud: GrpcCloud,
        ledger: DeviceLedger,
        simulation: Simulation,
        clock: Clock,
    ) -> None:
        self._host, self._cloud, self._ledger = host, cloud, ledger
        self._simulation, self._clock = simulation, clock
        # Whoever gives up waiting does not play an undisturbed replay.
        self._is_live = host.settings.deadline_s is not None
        items = host.scorer.manifest.features.items
        self._catalogue: Int64Array = np.arange(1, items + 1, dtype=np.int64)

    async def obey(self, order: plane.Order) -> None:
        """Do what is ordered within a run.

        Raises:
            RunFailed: it is nothing of that kind.
        """
        match order.WhichOneof("body"):
            case "round":
                await self.play(order.round)
            case "switch":
                await self.switch(order.switch)
            case other:
                raise RunFailed(f"{other} was ordered in the middle of a run")

    async def play(self, part: plane.Round) -> None:
        """Live through a round: users side by side, each user's moments in order."""
        self._cloud.round = part.number
        by_user: dict[int, list[plane.Moment]] = {}
        for moment in part.moments:
            by_user.setdefault(moment.user, []).append(moment)
        page = Page(SHORT_PAGE) if self._is_live else Page()

        async def play_user(moments: list[plane.Moment]) -> None:
            for moment in moments:
                await self._play_moment(moment, page)
                if page.is_full:
                    await self._simulation.tell(rankings=page.take())

        await self._host.side_by_side(play_user, by_user.values())
        await self._simulation.tell(rankings=page.take())
        if part.hand_over:
            await self._host.flush()
        await self._simulation.tell(round_done=round_done(part.number, self._ledger))

    async def switch(self, wanted: plane.Switch) -> None:
        """Run another bundle from now on, or go on with this one where that is no good."""
        refusal, offered = None, wanted.offered
        try:
            await updated(self._host, self._cloud, wanted.bundle_id, os.getpid(), offered=offered)
        except ConcertoError as error:
            _log.warning("bundle %s is not taken over: %s", wanted.bundle_id[:12], error)
            refusal = plane.Failure(code=error.code, message=str(error))
        await self.tell_ready(refusal)

    async def tell_ready(self, refusal: plane.Failure | None = None) -> None:
        """Say which bundle is active, and why the one that was ordered is not."""
        scorer = self._host.scorer
        ready = plane.Ready(bundle_id=scorer.bundle_id, provider=scorer.provider, refusal=refusal)
        await self._simulation.tell(ready=ready)

    async def end(self) -> None:
        """Hand over what still waits, and give account."""
        await self._host.flush()
        connections = await self._cloud.connections()
        await self._simulation.tell(run_done=account(self._host, self._ledger, connections))

    async def _play_moment(self, moment: plane.Moment, page: Page) -> None:
        device = self._host.device(moment.user)
        if moment.behaviour_only:
            await self._reveal(moment, device)
            await device.share(moment.at)
            return
        candidates = self._candidates(moment)
        if moment.begins:
            device.begin_session()
        start = self._clock()
        ranking = await device.rank(candidates, moment.at)
        seconds = self._clock() - start
        learning = await self._reveal(moment, device)
        page.add(moment.index, ranking, seconds, learning)

    async def _reveal(self, moment: plane.Moment, device: DeviceClient) -> float:
        """Tell ``device`` what its user took; seconds that it then learned."""
        learning = 0.0
        for item in moment.outcome:
            await device.observe(Event(item, moment.at))
            learning += self._learned(device)
            await device.contribute(moment.at)
        return learning

    def _learned(self, device: DeviceClient) -> float:
        """Let ``device`` learn, and say how long it took; uploading is no part of it."""
        if not device.learns:
            return 0.0
        start = self._clock()
        device.learn()
        return self._clock() - start

    def _candidates(self, moment: plane.Moment) -> Int64Array:
        if not moment.candidates:
            return self._catalogue
        return np.frombuffer(moment.candidates, "<i4").astype(np.int64)


class Agent:
    """One device process in a simulation.

    Args:
        settings: of this process; a run may change them.
        address: of the simulation.
        clock: seconds, for what is measured.
    """

    def __init__(
        self, settings: DeviceSettings, address: str, clock: Clock = time.perf_counter
    ) -> None:
        self._settings, self._address, self._clock = settings, address, clock
        self._tokens: TokenSource = no_token

    async def follow(self) -> None:
        """Dial in, and play run after run until told to leave.

        Raises:
            InputError: no simulation answers.
            RunFailed: the simulation went away.
            ConcertoError: an order could not be carried out; the simulation was told.
        """
        identity = self._settings.protected("simulation", self._address)
        async with dial(self._address, identity, _OPTIONS) as channel:
            await self._reach(channel)
            stub: SimulationAsyncStub = SimulationStub(channel)
            self._tokens = SimulationTokens(stub.Authorize) if identity else no_token
            simulation = Simulation(stub.Join(), self._address)
            await simulation.tell(joined=plane.Joined(pid=os.getpid()))
            note(_log, "joined a simulation", address=self._address)
            order = await simulation.order()
            while not order.HasField("leave"):
                order = await self._begin(order, simulation)
        note(_log, "left the simulation")

    async def _reach(self, channel: aio.Channel) -> None:
        seconds = self._settings.connect_s
        try:
            async with asyncio.timeout(seconds):
                await channel.channel_ready()
        except TimeoutError as error:
            raise InputError(
                f"no simulation answers at {self._address} within {seconds:g} s"
            ) from error

    async def _begin(self, order: plane.Order, simulation: Simulation) -> plane.Order:
        try:
            if not order.HasField("begin"):
                raise RunFailed(f"{order.WhichOneof('body')} was ordered before a run began")
            return await self._play_run(order.begin, simulation)
        except ConcertoError as error:
            await simulation.fail(error)
            raise

    async def _play_run(self, begin: plane.Begin, simulation: Simulation) -> plane.Order:
        """From an order to begin up to the order to end; gives the order after that.

        Until it comes the connections to the cloud stay open, so that the cloud, which is stopped
        first, can read what they carried.
        """
        given = self._settings.overridden(begin.settings)
        # A replay waits: what it measures must not depend on how busy the machine is. Under faults
        # it would wait for what never comes.
        settings = given if begin.live else given.model_copy(update={"deadline_s": None})
        ledger = DeviceLedger()
        fetching = fetched(settings, begin.method, ledger, seed=os.getpid(), tokens=self._tokens)
        async with fetching as (bundle, cloud):
            wires = Wires(cloud, ledger, simulation, self._clock)
            run = _run_of(bundle, settings, wires, begin)
            await run.tell_ready()
            note(_log, "plays", bundle=bundle.id, users=len(begin.windows), cloud=settings.cloud)
            while not (order := await simulation.order()).HasField("end"):
                await run.obey(order)
            await run.end()
            return await simulation.order()


def _run_of(
    bundle: Bundle, settings: DeviceSettings, wires: Wires, begin: plane.Begin
) -> Run | GraphRun:
    """The run that the bundle's task asks for, its bundle active."""
    if bundle.manifest.task is Task.NODE_CLASSIFICATION:
        return GraphRun(activate_classifier(bundle, settings), settings, wires)
    cloud = recorded(wires.cloud, settings.history)
    host = Host(activate(bundle, settings), cloud, settings)
    for window in begin.windows:
        host.device(window.user, window.items, window.profile)
    return Run(host, wires.cloud, wires.ledger, wires.simulation, wires.clock)
