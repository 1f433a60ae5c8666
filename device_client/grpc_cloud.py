"""The cloud over gRPC: one resumable stream for each device, on one channel or on its own."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from grpc import aio

from device_client.bundle_calls import SERVICE, BundleCalls
from device_client.channels import Channels
from device_client.cloud import Identity
from device_client.ledger import DeviceLedger
from device_client.sessions import Line, Session, SessionPool
from device_client.settings import DeviceSettings
from device_client.tokens import TokenSource, no_token
from protos.v1.collaboration_pb2 import (
    Answer,
    Ask,
    GroupRequest,
    Hello,
    Rank,
)
from shared_models.contract.connections import Connection, connections_to
from shared_models.contract.errors import (
    BadAsk,
    ConcertoError,
)
from shared_models.contract.events import EventBatch
from shared_models.contract.federation import (
    Contribution,
    Settled,
    contribution_to_proto,
    settled_from_proto,
)
from shared_models.contract.overlay import Overlay, overlay_from_proto
from shared_models.contract.ranking import RankedList, Receipt, Wanted
from shared_models.contract.tensors import tensor_from_proto
from shared_models.contract.traffic import (
    CONTRIBUTE,
    CONTROL,
    GROUP,
    RANK,
    REFRESH,
    UPLOAD,
)
from shared_models.contract.uplink import Uplink, refresh_to_proto, upload_to_proto

SessionCall = aio.StreamStreamCall[bytes, bytes]
_SESSION: Final = f"/{SERVICE}/Session"


class GrpcCloud(BundleCalls):
    """A `Cloud` at an address; an async context manager.

    While the channel is down, what a ranking waits for fails at once; what a process needs before
    it can rank at all (`released`, `fetch_bundle`) waits ``connect_s``.

    Args:
        settings: address, bounds and deadlines. Without a deadline, as in a replay, the cloud is
            told that this device waits for it however busy it is.
        ledger: counts every payload byte.
        clock: seconds, for receipts; measures, never decides.
        tokens: gives what proves whose a session is; nothing, for a cloud in clear.

    Attributes:
        round: the replay's round that asks belong to; 0 outside replays.
    """

    def __init__(
        self,
        settings: DeviceSettings,
        ledger: DeviceLedger,
        clock: Callable[[], float] = time.perf_counter,
        tokens: TokenSource = no_token,
    ) -> None:
        self._line, self._tokens = Line(settings.cloud, ledger, settings.deadline_s), tokens
        identity = settings.protected("cloud", settings.cloud)
        self._channels = Channels(settings.cloud, identity, own=settings.channel == "own")
        super().__init__(settings.cloud, self._channels.shared, ledger, settings.connect_s)
        self._clock, self._audit = clock, settings.history is not None
        self._pool = SessionPool(settings.open_sessions)
        self._asked: dict[int, int] = {}
        self.round = 0

    async def __aenter__(self) -> "GrpcCloud":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.close()
        await self._channels.close()

    async def refresh(
        self, who: Identity, uplink: Uplink, events_seen: int, at: float
    ) -> tuple[Overlay, Receipt]:
        """Ask for new slot values."""
        ask = self._next_ask(who, at, refresh=refresh_to_proto(uplink, events_seen))
        answer, receipt = await self._answer(who, ask, REFRESH)
        return overlay_from_proto(answer.overlay, who.bundle_id, events_seen), receipt

    async def group(
        self, who: Identity, number: int, events_seen: int, at: float
    ) -> tuple[Overlay, Receipt]:
        """Ask for what a group shares."""
        ask = self._next_ask(who, at, group=GroupRequest(number=number))
        answer, receipt = await self._answer(who, ask, GROUP)
        return overlay_from_proto(answer.overlay, who.bundle_id, events_seen), receipt

    async def shared(
        self, who: Identity, have: int | None, events_seen: int, at: float
    ) -> tuple[Overlay, Receipt]:
        """Ask for what the user's own group shares."""
        ask = self._next_ask(who, at, group=GroupRequest(have=have))
        answer, receipt = await self._answer(who, ask, GROUP)
        return overlay_from_proto(answer.overlay, who.bundle_id, events_seen), receipt

    async def contributions_stored(self, who: Identity) -> int:
        """The cloud's count as it last told it; opens a session where there is none."""
        return (await self._opened(who)).contributions_stored

    async def contribute(
        self, who: Identity, contribution: Contribution, at: float
    ) -> tuple[Settled, Receipt]:
        """Hand over what was learned."""
        ask = self._next_ask(who, at, contribute=contribution_to_proto(contribution))
        answer, receipt = await self._answer(who, ask, CONTRIBUTE)
        settled = settled_from_proto(answer.contributed)
        if session := self._pool.find(who):
            session.contributions_stored = settled.stored
        return settled, receipt

    async def rank(
        self, who: Identity, wanted: Wanted, events_seen: int, at: float
    ) -> tuple[RankedList, Receipt]:
        """Ask for scores, or for items with theirs.

        Raises:
            BadAsk: the cloud did not score each candidate.
        """
        rank = Rank(items=wanted.window, candidates=wanted.candidates, retrieve=wanted.retrieve)
        answer, receipt = await self._answer(who, self._next_ask(who, at, rank=rank), RANK)
        items = np.array(wanted.candidates or answer.scores.items, np.int64)
        scores = tensor_from_proto(answer.scores.values)
        if not len(items) or scores.shape != items.shape or not np.isfinite(scores).all():
            raise BadAsk(f"{len(items)} items came back with scores {scores.shape}")
        return RankedList(items, scores, events_seen), receipt

    async def events_stored(self, who: Identity) -> int:
        """The journal's count as the present session began; opens one where there is none."""
        return (await self._opened(who)).events_stored

    async def upload(self, who: Identity, batch: EventBatch) -> int:
        """Store events."""
        ask = self._next_ask(who, batch.events[-1].at, upload=upload_to_proto(batch))
        answer, _ = await self._answer(who, ask, UPLOAD)
        return answer.stored.events_stored

    def _next_ask(self, who: Identity, at: float, **body: Any) -> Ask:
        seq = self._asked[who.user] = self._asked.get(who.user, 0) + 1
        return Ask(seq=seq, at=at, round=self.round, **body)

    async def _answer(self, who: Identity, ask: Ask, purpose: str) -> tuple[Answer, Receipt]:
        start = self._clock()
        session = await self._opened(who)
        done = await session.exchange(ask, purpose)
        receipt = Receipt(ask.seq, done.bytes_up, done.bytes_down, self._clock() - start)
        return done.answer, receipt

    async def _opened(self, who: Identity) -> Session:
        """The session of ``who``, opened with a hello where there is none.

        A hello has number 0, so that asks are numbered alike however often sessions are reopened.
        """
        session = self._pool.find(who)
        if session is None:
            token = await self._tokens(who.user)
            session = self._session(who)
            self._ledger.streams.opened += 1
            self._pool.add(session)
            await self._greet(session, token)
        return session

    def _session(self, who: Identity) -> Session:
        channel = self._channels.take(who.user)
        call: SessionCall = channel.stream_stream(_SESSION)()
        return Session(who, call, self._line, partial(self._channels.give_back, channel))

    async def _greet(self, session: Session, token: str) -> None:
        waits = self._line.deadline_s is None
        who = session.who
        hello = Hello(
            user=who.user,
            bundle_id=who.bundle_id,
            waits=waits,
            profile=who.profile,
            token=token,
            audit=self._audit,
        )
        try:
            done = await session.exchange(Ask(round=self.round, hello=hello), CONTROL)
        except ConcertoError:
            session.close()
            raise
        welcome = done.answer.welcome
        session.events_stored = welcome.events_stored
        session.contributions_stored = welcome.contributions_stored

    async def connections(self) -> list[Connection]:
        """This process's connections to the cloud as the kernel sees them, once they are quiet."""
        return await connections_to(self._address)
