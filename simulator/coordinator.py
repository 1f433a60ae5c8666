"""The simulator's end of the control plane: device processes dial in and take orders.

A device process is a `DeviceLink`: orders go down, reports come up. What is ordered, and what the
reports mean, is `simulator.replay`'s business.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Final, Self

from grpc import StatusCode, aio
from grpc_health.v1 import health, health_pb2_grpc
from typing_extensions import override

from protos.v1.simulation_pb2 import (
    AuthorizeRequest,
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
    Tokens,
)
from protos.v1.simulation_pb2_grpc import SimulationServicer, add_SimulationServicer_to_server
from shared_models.contract.errors import AccessRefused, RunFailed
from shared_models.contract.security import ProcessIdentity, bind
from simulator.identity import gate_of

Context = aio.ServicerContext[Any, Any]
LOOPBACK: Final = "127.0.0.1:0"
_MESSAGE_BYTES: Final = 256 << 20
"""A user's whole test part ranked over a large catalogue fits; the peers are our own processes."""
_PATIENCE_S: Final = 600.0
_NO_MORE_S: Final = 5.0
_FAREWELL_S: Final = 15.0
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

    Args:
        pid: its operating-system process id.
        thumbprint: of the certificate that it came with; empty in clear.

    Attributes:
        pid: as given.
        thumbprint: as given.
        users: whom it holds.
    """

    def __init__(self, pid: int, thumbprint: bytes = b"") -> None:
        self.pid, self.thumbprint = pid, thumbprint
        self.users: frozenset[int] = frozenset()
        self._orders: asyncio.Queue[Order | None] = asyncio.Queue()
        self._reports: asyncio.Queue[Report | None] = asyncio.Queue()
        self._gone = asyncio.Event()

    @property
    def has_left(self) -> bool:
        """Whether the process says no more, and is told no more."""
        return self._gone.is_set()

    async def hear(self, reports: AsyncIterator[Report]) -> None:
        """Take in what the process says, until it says no more."""
        try:
            async for report in reports:
                self._reports.put_nowait(report)
        finally:
            self._reports.put_nowait(None)
            self._orders.put_nowait(None)
            self._gone.set()

    async def orders(self) -> AsyncIterator[Order]:
        """What the process is to do, as it is decided."""
        while (order := await self._orders.get()) is not None:
            yield order

    def tell(self, order: Order) -> None:
        """Give an order; what comes of it is read with `said`."""
        if order.HasField("begin"):
            self.users = frozenset(window.user for window in order.begin.windows)
        self._orders.put_nowait(order)

    async def said(self) -> Report | None:
        """The next word of the process; None once it says no more."""
        report = await self._reports.get()
        if report is None:
            self._reports.put_nowait(None)
        return report

    async def begin(self, begin: Begin) -> Ready:
        """Start a run and wait until its bundle is active."""
        self.tell(Order(begin=begin))
        return (await self._report("ready")).ready

    async def switch(self, bundle_id: str) -> Ready:
        """Let its devices run another bundle, and wait until they do or have refused."""
        self.tell(Order(switch=Switch(bundle_id=bundle_id)))
        return (await self._report("ready")).ready

    def play(self, part: Round) -> None:
        """Hand over a round; what comes of it is read with `rankings`."""
        self.tell(Order(round=part))

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
        self.tell(Order(end=End()))
        return (await self._report("run_done")).run_done

    async def leave(self) -> None:
        """Let the process go, and see it off."""
        self.tell(Order(leave=Leave()))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), _FAREWELL_S)

    async def _report(self, *wanted: str) -> Report:
        report = await self.said()
        if report is None:
            raise RunFailed(f"device process {self.pid} went away in the middle of the run")
        kind = report.WhichOneof("body")
        if kind == "failure":
            raise RunFailed(f"device process {self.pid}: {report.failure.message}")
        if kind not in wanted:
            raise RunFailed(f"device process {self.pid} said {kind}, not {' or '.join(wanted)}")
        return report


class Coordinator(SimulationServicer):
    """Where device processes dial in; an async context manager that listens while it is open.

    Args:
        listen: HOST:PORT.
        identity: of the simulator; without one, whoever comes is let in, in clear.

    Attributes:
        address: ``host:port`` to dial, once it is open.

    Raises:
        InputError: the identity cannot be used.
    """

    def __init__(self, listen: str = LOOPBACK, identity: ProcessIdentity | None = None) -> None:
        self._listen, self._identity = listen, identity
        self._arrived: asyncio.Queue[DeviceLink] = asyncio.Queue()
        self._present: set[DeviceLink] = set()
        self._gate = gate_of(identity)
        self._server = aio.server(options=_OPTIONS, interceptors=self._gate.interceptors)
        self._watching: asyncio.Task[None] | None = None
        self.address = listen

    @property
    def joined(self) -> int:
        """Device processes that are here now."""
        return len(self._present)

    async def __aenter__(self) -> Self:
        add_SimulationServicer_to_server(self, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), self._server)
        self.address = bind(self._server, self._listen, self._identity)
        await self._server.start()
        self._watching = asyncio.create_task(self._gate.watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching:
            self._watching.cancel()
        await self._server.stop(grace=None)

    async def gathered(self, count: int, timeout_s: float = 60.0) -> list[DeviceLink]:
        """The first ``count`` device processes to dial in and stay, ordered by process id.

        Raises:
            RunFailed: fewer came within ``timeout_s`` seconds.
        """
        links: list[DeviceLink] = []
        try:
            async with asyncio.timeout(timeout_s):
                while len(links := _still_here(links)) < count:
                    links.append(await self._arrived.get())
        except TimeoutError as error:
            raise RunFailed(
                f"{len(links)} of {count} device processes dialled {self.address} "
                f"within {timeout_s:g} s"
            ) from error
        return sorted(links, key=lambda link: link.pid)

    async def assembled(self, count: int | None) -> list[DeviceLink]:
        """Device processes that come by themselves, from wherever they are.

        Args:
            count: how many to wait for; None: the first one, and then until no more are coming.

        Raises:
            RunFailed: they did not come.
        """
        links = await self.gathered(count or 1, _PATIENCE_S)
        with suppress(TimeoutError):
            while count is None:
                links.append(await asyncio.wait_for(self._arrived.get(), _NO_MORE_S))
        return _still_here(links) or await self.assembled(count)

    @override
    async def Join(
        self,
        request_iterator: AsyncIterator[Report],
        context: Context,
    ) -> AsyncIterator[Order]:
        """Take a device process in, and hand it its orders until it leaves."""
        joined = (await anext(aiter(request_iterator))).joined
        link = DeviceLink(joined.pid, self._gate.thumbprint(context.auth_context()))
        hearing = asyncio.create_task(link.hear(request_iterator))
        self._arrived.put_nowait(link)
        self._present.add(link)
        try:
            async for order in link.orders():
                yield order
        finally:
            self._present.discard(link)
            hearing.cancel()

    @override
    async def Authorize(self, request: AuthorizeRequest, context: Context) -> Tokens:
        """Give tokens of users to the process that joined with this certificate and holds them."""
        shown = self._gate.thumbprint(context.auth_context())
        links = [link for link in self._present if link.thumbprint == shown]
        try:
            return self._gate.tokens(
                request.users, lambda user: any(user in link.users for link in links), shown
            )
        except AccessRefused as error:
            await context.abort(StatusCode.PERMISSION_DENIED, str(error))


def _still_here(links: Sequence[DeviceLink]) -> list[DeviceLink]:
    return [link for link in links if not link.has_left]
