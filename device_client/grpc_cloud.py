"""The cloud over gRPC: one stream for each user, opened when it is needed, counted byte by byte."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from grpc import aio

from device_client.channel import LOST, error_of_call, error_of_fault
from device_client.ledger import Ledger, Purpose
from protos.v1.collaboration_pb2 import Answer, Ask, Hello, Rank, Refresh, Upload
from shared_models.contract.errors import CloudUnavailable, ConcertoError
from shared_models.contract.events import EventBatch
from shared_models.contract.overlay import Overlay, overlay_from_proto
from shared_models.contract.tensors import Float32Array, tensor_from_proto

SESSION: Final = "/protos.v1.Collaboration/Session"


@dataclass(slots=True)
class _Stream:
    """An open session. The number of asks lives outside: it goes on when a session is reopened."""

    call: "aio.StreamStreamCall[bytes, bytes]"
    busy: bool = False


class GrpcCloud:
    """`device_client.cloud.Cloud` over one channel.

    Messages are serialised here, once, and counted as they are; the channel moves bytes.

    Args:
        channel: to the cloud.
        address: for messages to people.
        bundle_id: the bundle that all devices of this process run.
        ledger: the process's.
        waits: in a replay, wait for a busy cloud instead of being turned away.
        open_sessions: most open streams; idle ones are closed, the least recently used first.
    """

    def __init__(
        self,
        channel: aio.Channel,
        address: str,
        bundle_id: str,
        ledger: Ledger,
        *,
        waits: bool,
        open_sessions: int,
    ) -> None:
        self._open: aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(SESSION)
        self._address, self._bundle_id, self._ledger = address, bundle_id, ledger
        self._waits, self._most = waits, open_sessions
        self._streams: OrderedDict[int, _Stream] = OrderedDict()
        self._seqs: dict[int, int] = {}

    async def refresh(
        self, user: int, items: Sequence[int], *, events_seen: int, at: float
    ) -> Overlay:
        """Slot values for the uplink ``items``."""
        ask = Ask(at=at, refresh=Refresh(items=items, events_seen=events_seen))
        answer = await self._ask(user, Purpose.REFRESH, ask)
        return overlay_from_proto(answer.overlay, self._bundle_id)

    async def rank(
        self, user: int, items: Sequence[int], candidates: Sequence[int], *, at: float
    ) -> Float32Array:
        """Logits (C,) for ``candidates``."""
        ask = Ask(at=at, rank=Rank(items=items, candidates=candidates))
        answer = await self._ask(user, Purpose.RANK, ask)
        return tensor_from_proto(answer.scores.values)

    async def upload(self, user: int, events: EventBatch, *, at: float) -> int:
        """Hand over events; gives how many the cloud's disk holds."""
        items = [event.item for event in events.events]
        times = [event.at for event in events.events]
        ask = Ask(at=at, upload=Upload(first=events.first, items=items, times=times))
        return (await self._ask(user, Purpose.UPLOAD, ask)).stored.events_stored

    async def close(self) -> None:
        """Close every session."""
        streams = list(self._streams.values())
        self._streams.clear()
        await asyncio.gather(*map(_finish, streams))

    @property
    def sessions(self) -> int:
        """Open sessions."""
        return len(self._streams)

    async def _ask(self, user: int, purpose: Purpose, ask: Ask) -> Answer:
        stream = self._streams.get(user) or await self._opened(user)
        self._streams.move_to_end(user)
        return await self._exchange(user, stream, purpose, ask)

    async def _opened(self, user: int) -> _Stream:
        await self._make_room()
        stream = _Stream(self._open())
        self._streams[user] = stream
        hello = Hello(user=user, bundle_id=self._bundle_id, waits=self._waits)
        try:
            await self._exchange(user, stream, Purpose.CONTROL, Ask(hello=hello))
        except ConcertoError:
            # A session without a hello is good for nothing; the next ask opens another.
            self._drop(user)
            raise
        return stream

    async def _exchange(self, user: int, stream: _Stream, purpose: Purpose, ask: Ask) -> Answer:
        if purpose is not Purpose.CONTROL:
            ask.seq = self._seqs[user] = self._seqs.get(user, 0) + 1
        data = ask.SerializeToString()
        stream.busy = True
        try:
            await stream.call.write(data)
            self._ledger.sent(user, purpose, len(data))
            received = await stream.call.read()
        except LOST as error:
            self._drop(user)
            raise error_of_call(error, self._address) from error
        finally:
            stream.busy = False
        return self._answer(user, purpose, ask.seq, received)

    def _answer(self, user: int, purpose: Purpose, seq: int, received: object) -> Answer:
        if not isinstance(received, bytes):
            self._drop(user)
            raise CloudUnavailable(f"the cloud at {self._address} closed the session")
        self._ledger.received(user, purpose, len(received))
        answer = Answer.FromString(received)
        if answer.HasField("fault"):
            raise error_of_fault(answer.fault)
        if answer.seq != seq:
            self._drop(user)
            raise CloudUnavailable(f"ask {seq} was answered as {answer.seq}")
        return answer

    async def _make_room(self) -> None:
        """Close the sessions that were idle longest, as many as there are too many."""
        too_many = len(self._streams) + 1 - self._most
        idle = [user for user, stream in self._streams.items() if not stream.busy]
        closing = [self._streams.pop(user) for user in idle[: max(too_many, 0)]]
        await asyncio.gather(*map(_finish, closing))

    def _drop(self, user: int) -> None:
        stream = self._streams.pop(user, None)
        if stream is not None:
            stream.call.cancel()


async def _finish(stream: _Stream) -> None:
    """Hang up as agreed: the cloud sees the end of the asks, not a broken call."""
    with suppress(*LOST):
        await stream.call.done_writing()
        await stream.call.read()
