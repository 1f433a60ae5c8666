"""A device process that may be killed: the one that takes its place goes on where it was.

What a process did not report is forgotten with it. Its users live that part again, with the
windows that the simulation knows; what they took and the cloud has acknowledged stays there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from typing_extensions import override

from protos.v1.simulation_pb2 import Begin, InitialWindow, Moment, Order, Report, Round, Switch
from simulator.coordinator import DeviceLink

Settled = Callable[[int], Awaitable[None]]
"""Waits until all that was to happen in a round has happened."""


@dataclass(slots=True)
class _Owed:
    """An order that is not answered yet.

    Attributes:
        order: what was ordered.
        left: of a round, the moments that were not lived as far as is known.
        heard: told the answer, where it is not the replay that has ordered it.
    """

    order: Order
    left: list[Moment] = field(default_factory=list)
    heard: "asyncio.Future[Report] | None" = None

    @property
    def rest(self) -> Order:
        """What of the order is still to be done."""
        if not self.order.HasField("round"):
            return self.order
        part = self.order.round
        return Order(round=Round(number=part.number, moments=self.left, hand_over=part.hand_over))

    def lived(self, indices: Collection[int]) -> list[Moment]:
        """Take out the moments of these rankings, and all that their users lived before them."""
        last = {
            moment.user: place
            for place, moment in enumerate(self.left)
            if moment.index in indices and not moment.behaviour_only
        }
        gone = [m for place, m in enumerate(self.left) if place <= last.get(m.user, -1)]
        self.left = [m for place, m in enumerate(self.left) if place > last.get(m.user, -1)]
        return gone


class Reviving(DeviceLink):
    """A link that outlives its device process.

    Args:
        life: the process that is there.
        settled: awaited before a round's end is told, so that the next one waits for the faults.

    Attributes:
        clock_error_s: by how much its devices' clocks are wrong.
    """

    def __init__(self, life: DeviceLink, settled: Settled) -> None:
        super().__init__(life.pid)
        self._life, self._settled = life, settled
        self._lives: asyncio.Queue[DeviceLink] = asyncio.Queue()
        self._deaths = 0
        self._begin = Begin()
        self._windows: dict[int, InitialWindow] = {}
        self._owed: list[_Owed] = []
        self.clock_error_s = 0.0

    @property
    def life(self) -> DeviceLink:
        """The process that is there."""
        return self._life

    def killed(self) -> None:
        """The process was killed; another one will take its place."""
        self._deaths += 1

    def reborn(self, life: DeviceLink) -> None:
        """Here is the process that takes its place."""
        self._lives.put_nowait(life)

    def offer(self, bundle_id: str) -> "asyncio.Future[Report]":
        """Order the process to run a bundle that its cloud does not announce; its answer."""
        heard: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        order = Order(switch=Switch(bundle_id=bundle_id, offered=True))
        self._owed.append(_Owed(order, heard=heard))
        self._life.tell(order)
        return heard

    @override
    def tell(self, order: Order) -> None:
        if order.HasField("begin"):
            self._begin, self._owed = order.begin, []
            self._windows = {window.user: window for window in order.begin.windows}
        for moment in order.round.moments:
            moment.at += self.clock_error_s
        self._owed.append(_Owed(order, list(order.round.moments)))
        self._life.tell(order)

    @override
    async def said(self) -> Report | None:
        while True:
            report = await self._life.said()
            if report is not None:
                if await self._is_for_the_replay(report):
                    return report
            elif self._deaths:
                self._deaths -= 1
                self._revive(await self._lives.get())
            else:
                return None

    async def _is_for_the_replay(self, report: Report) -> bool:
        """Take down what an answer settles."""
        match report.WhichOneof("body"):
            case "rankings":
                self._remember(self._owed[0].lived(set(report.rankings.moments)))
            case "round_done":
                self._remember(self._owed.pop(0).left)
                await self._settled(report.round_done.round)
            case "ready":
                heard = self._owed.pop(0).heard
                if heard is not None:
                    heard.set_result(report)
                    return False
            case "run_done":
                self._owed.clear()
        return True

    def _remember(self, lived: list[Moment]) -> None:
        for moment in lived:
            self._windows[moment.user].items.extend(moment.outcome)

    def _revive(self, life: DeviceLink) -> None:
        """Let another process begin as the simulation knows its users, and go on from there."""
        self._life, self.pid = life, life.pid
        begin = Order(begin=self._begin)
        del begin.begin.windows[:]
        begin.begin.windows.extend(self._windows.values())
        if self._owed and self._owed[0].order.HasField("begin"):
            self._owed[0].order = begin
        else:
            heard = asyncio.get_running_loop().create_future()
            self._owed.insert(0, _Owed(begin, heard=heard))
        for owed in self._owed:
            life.tell(owed.rest)
