"""The control plane as a device process sees it: orders come down, reports go up."""

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from grpc import aio

from device_client.host import Host
from device_client.ledger import DeviceLedger
from device_client.sessions import is_our_own_cancellation, turned_out
from protos.v1 import simulation_pb2 as plane
from shared_models.contract.connections import Connection
from shared_models.contract.errors import ConcertoError, RunFailed
from shared_models.contract.processes import resident_bytes
from shared_models.contract.ranking import Decision, Ranking, Receipt, Source

JoinStream = aio.StreamStreamCall[plane.Report, plane.Order]
_BROKEN: Final = (aio.AioRpcError, aio.UsageError, asyncio.InvalidStateError)
_HEARD_S: Final = 5.0
_PAGE_RANKINGS: Final = 256
SHORT_PAGE: Final = 16
"""Where processes may be killed: what is not reported is lived again."""
_PAGE_BYTES: Final = 1 << 20
_NO_RECEIPT: Final = Receipt(0, 0, 0, 0.0, exchanges=0)
_SOURCES: Final[Mapping[Source, plane.Source.ValueType]] = {
    Source.DEFAULT_WEIGHTS: plane.SOURCE_DEFAULT_WEIGHTS,
    Source.OVERLAY: plane.SOURCE_OVERLAY,
    Source.STALE_OVERLAY: plane.SOURCE_STALE_OVERLAY,
    Source.CLOUD: plane.SOURCE_CLOUD,
    Source.LEARNED_WEIGHTS: plane.SOURCE_LEARNED_WEIGHTS,
    Source.LIST: plane.SOURCE_LIST,
    Source.RERANKED: plane.SOURCE_RERANKED,
}
_DECISIONS: Final[Mapping[Decision, plane.Decision.ValueType]] = {
    Decision.SCORE: plane.DECISION_SCORE,
    Decision.REFRESH: plane.DECISION_REFRESH,
    Decision.ASK_CLOUD: plane.DECISION_ASK_CLOUD,
    Decision.KEEP: plane.DECISION_KEEP,
}


class Simulation:
    """The stream to a simulation: orders come one by one, words of many tasks go in turn."""

    def __init__(self, stream: JoinStream, address: str) -> None:
        self._stream, self._address, self._turn = stream, address, asyncio.Lock()

    async def tell(self, **body: Any) -> None:
        """Say one word: a field of `Report`.

        Raises:
            RunFailed: nobody listens any more.
        """
        async with self._turn:
            with self._translated():
                await self._stream.write(plane.Report(**body))

    async def order(self) -> plane.Order:
        """The next order.

        Raises:
            RunFailed: there will be none.
        """
        with self._translated():
            order = await self._stream.read()
        if not isinstance(order, plane.Order):
            raise RunFailed(f"the simulation at {self._address} hung up")
        return order

    async def fail(self, error: ConcertoError) -> None:
        """Say why this process ends, and wait until that was heard.

        Raises:
            RunFailed: nobody listens any more.
        """
        await self.tell(failure=plane.Failure(code=error.code, message=str(error)))
        # A stream that closes at once takes what was said last with it.
        try:
            async with asyncio.timeout(_HEARD_S):
                await self._stream.done_writing()
                while await self._stream.read() is not aio.EOF:
                    pass
        except (*_BROKEN, TimeoutError):
            return
        except asyncio.CancelledError:
            if is_our_own_cancellation():
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except _BROKEN as error:
            refused = turned_out(f"the simulation at {self._address}", error)
            raise refused or RunFailed(f"the simulation at {self._address} went away") from error


class Page:
    """Rankings on their way to the simulation, column by column; ``bound`` of them fill it."""

    def __init__(self, bound: int = _PAGE_RANKINGS) -> None:
        self._rankings, self._scores, self._size = plane.Rankings(), bytearray(), 0
        self._bound = bound

    @property
    def is_full(self) -> bool:
        """Whether it should leave."""
        return self._size >= self._bound or len(self._scores) >= _PAGE_BYTES

    def add(self, index: int, ranking: Ranking, seconds: float, learning: float = 0.0) -> None:
        """Write down the ranking of moment ``index``, and how long it and learning took."""
        page, receipt = self._rankings, ranking.receipt or _NO_RECEIPT
        page.moments.append(index)
        page.sources.append(_SOURCES[ranking.source])
        page.decisions.append(_DECISIONS[ranking.decision])
        page.overlay_ages.append(ranking.overlay_age or 0)
        page.seconds.append(seconds)
        page.asks.append(receipt.ask)
        page.bytes_up.append(receipt.bytes_up)
        page.bytes_down.append(receipt.bytes_down)
        page.cloud_seconds.append(receipt.seconds)
        page.exchanges.append(receipt.exchanges)
        page.learning_seconds.append(learning)
        self._scores += ranking.scores.astype("<f4").tobytes()
        self._size += 1

    def take(self) -> plane.Rankings:
        """Everything that was written, and a blank page."""
        full, full.scores = self._rankings, bytes(self._scores)
        self._rankings, self._scores, self._size = plane.Rankings(), bytearray(), 0
        return full


def account(
    host: Host, ledger: DeviceLedger, connections: Sequence[Connection] = ()
) -> plane.RunDone:
    """What a run took on this process; ``connections`` are those to its cloud."""
    handed = ((user, device.events_handed_over) for user, device in host.devices.items())
    learned = ((user, device.learning_steps) for user, device in host.devices.items())
    kept = ((user, device.state_bytes) for user, device in host.devices.items())
    done = process_account(ledger, connections)
    done.observed.extend(plane.UserCount(user=user, count=count) for user, count in handed if count)
    done.state_bytes.extend(plane.UserCount(user=user, count=count) for user, count in kept)
    done.learning_steps.extend(
        plane.UserCount(user=user, count=count) for user, count in learned if count
    )
    return done


def process_account(ledger: DeviceLedger, connections: Sequence[Connection] = ()) -> plane.RunDone:
    """What a run took on this process, whatever its devices are."""
    return plane.RunDone(
        traffic=_traffic(ledger),
        modules=sorted({name.partition(".")[0] for name in sys.modules}),
        resident_bytes=resident_bytes(),
        connections=map(_connection, connections),
        streams=_streams(ledger),
    )


def round_done(number: int, ledger: DeviceLedger) -> plane.RoundDone:
    """Word that round ``number`` is over, and what the run took on this process until now."""
    payload = ledger.payload
    spent = [
        plane.Traffic(purpose=purpose, bytes_up=each.bytes_up, bytes_down=each.bytes_down)
        for purpose, each in ledger.by_purpose.items()
    ]
    return plane.RoundDone(
        round=number, bytes_up=payload.bytes_up, bytes_down=payload.bytes_down, purposes=spent
    )


def _connection(connection: Connection) -> plane.Connection:
    return plane.Connection(
        local=connection.local,
        peer=connection.peer,
        bytes_up=connection.sent,
        bytes_down=connection.received,
    )


def _streams(ledger: DeviceLedger) -> plane.Streams:
    streams = ledger.streams
    return plane.Streams(
        opened=streams.opened, reset=streams.reset, broken=streams.broken, pieces=streams.pieces
    )


def _traffic(ledger: DeviceLedger) -> Iterator[plane.Traffic]:
    for user, purpose, spent in ledger.rows():
        yield plane.Traffic(
            user=user,
            purpose=purpose,
            bytes_up=spent.bytes_up,
            bytes_down=spent.bytes_down,
            asks=spent.asks,
        )
