"""The simulator's end of the control plane: device processes dial in and take orders.

A device process is a `DeviceLink`: orders go down, reports come up. What is ordered, and what the
reports mean, is `simulator.replay`'s business.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Self

from grpc import aio
from typing_extensions import override

from protos.v1.simulation_pb2 import (
    Begin,
    Classified,
    End,
    Leave,
    Order,
    Rankings,
    Ready,
    Report,
    Round,
    RoundDone,
    RunDone,
    Switch,
)
from protos.v1.simulation_pb2_grpc import SimulationServicer, add_SimulationServicer_to_server
from shared_models.contract.errors import PortTaken, RunFailed

LOOPBACK: Final = "127.0.0.1:0"
_MESSAGE_BYTES: Final = 256 << 20
"""A user's whole test part ranked over a large catalogue fits; the peers are our own processes."""
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    # A process that plays a long round over a slow link says nothing for minutes, but pings. By
    # default that is taken for an attack, and it is cut off.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class DeviceLink:
    """One device process, as long as it stays.

    Attributes:
        pid: its operating-system process id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._orders: asyncio.Queue[Order | None] = asyncio.Queue()
        self._reports: asyncio.Queue[Report | None] = asyncio.Queue()

    async def hear(self, reports: AsyncIterator[Report]) -> None:
        """Take in what the process says, until it says no more."""
        try:
            async for report in reports:
                self._reports.put_nowait(report)
        finally:
            self._reports.put_nowait(None)
            self._orders.put_nowait(None)

    async def orders(self) -> AsyncIterator[Order]:
        """What the process is to do, as it is decided."""
        while (order := await self._orders.get()) is not None:
            yield order

    async def begin(self, begin: Begin) -> Ready:
        """Start a run and wait until its bundle is active."""
        self._orders.put_nowait(Order(begin=begin))
        return (await self._report("ready")).ready

    async def switch(self, bundle_id: str) -> Ready:
        """Let its devices run another bundle, and wait until they do or have refused."""
        self._orders.put_nowait(Order(switch=Switch(bundle_id=bundle_id)))
        return (await self._report("ready")).ready

    def play(self, part: Round) -> None:
        """Hand over a round; what comes of it is read with `rankings`."""
        self._orders.put_nowait(Order(round=part))

    async def rankings(self, number: int) -> AsyncIterator[Rankings | RoundDone]:
        """The rankings of round ``number`` as they come, and last its `RoundDone`."""
        async for report in self._of_round(number, "rankings"):
            yield report.rankings if report.HasField("rankings") else report.round_done

    async def classified(self, number: int) -> AsyncIterator[Classified | RoundDone]:
        """What devices said of nodes in round ``number``, and last its `RoundDone`."""
        async for report in self._of_round(number, "classified"):
            yield report.classified if report.HasField("classified") else report.round_done

    async def _of_round(self, number: int, kind: str) -> AsyncIterator[Report]:
        while True:
            report = await self._report(kind, "round_done")
            if report.HasField("round_done") and report.round_done.round != number:
                raise RunFailed(
                    f"device process {self.pid} ended round {report.round_done.round}, not {number}"
                )
            yield report
            if report.HasField("round_done"):
                return

    async def end(self) -> RunDone:
        """End the run and take its accounts."""
        self._orders.put_nowait(Order(end=End()))
        return (await self._report("run_done")).run_done

    def leave(self) -> None:
        """Let the process go."""
        self._orders.put_nowait(Order(leave=Leave()))

    async def _report(self, *wanted: str) -> Report:
        report = await self._reports.get()
        if report is None:
            self._reports.put_nowait(None)
            raise RunFailed(f"device process {self.pid} went away in the middle of the run")
        kind = report.WhichOneof("body")
        if kind == "failure":
            raise RunFailed(f"device process {self.pid}: {report.failure.message}")
        if kind not in wanted:
            raise RunFailed(f"device process {self.pid} said {kind}, not {' or '.join(wanted)}")
        return report


class Coordinator(SimulationServicer):
    """Where device processes dial in; an async context manager that listens while it is open.

    Attributes:
        address: ``host:port`` to dial, once it is open.
    """

    def __init__(self, listen: str = LOOPBACK) -> None:
        self._listen = listen
        self._arrived: asyncio.Queue[DeviceLink] = asyncio.Queue()
        self._server = aio.server(options=_OPTIONS)
        self.address = listen

    async def __aenter__(self) -> Self:
        add_SimulationServicer_to_server(self, self._server)
        try:
            port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise PortTaken(self._listen) from error
        self.address = f"{self._listen.rpartition(':')[0]}:{port}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(grace=None)

    async def gathered(self, count: int, timeout_s: float = 60.0) -> list[DeviceLink]:
        """The first ``count`` device processes to dial in, ordered by process id.

        Raises:
            RunFailed: fewer came within ``timeout_s`` seconds.
        """
        links: list[DeviceLink] = []
        try:
            async with asyncio.timeout(timeout_s):
                while len(links) < count:
                    links.append(await self._arrived.get())
        except TimeoutError as error:
            raise RunFailed(
                f"{len(links)} of {count} device processes dialled {self.address} "
                f"within {timeout_s:g} s"
            ) from error
        return sorted(links, key=lambda link: link.pid)

    @override
    async def Join(
        self,
        request_iterator: AsyncIterator[Report],
        context: object,
    ) -> AsyncIterator[Order]:
        """Take a device process in, and hand it its orders until it leaves."""
        joined = (await anext(aiter(request_iterator))).joined
        link = DeviceLink(joined.pid)
        hearing = asyncio.create_task(link.hear(request_iterator))
        self._arrived.put_nowait(link)
        try:
            async for order in link.orders():
                yield order
        finally:
            hearing.cancel()
