"""The conversation of one device, without its transport: an ask in, an answer out."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from cloud_server.batcher import Stay
from cloud_server.failpoints import failpoint
from cloud_server.identity import Prove, believed
from cloud_server.limits import keep_to
from cloud_server.memory.store import LIVE
from cloud_server.metrics import OK
from cloud_server.models import Served
from cloud_server.services import Services
from cloud_server.statuses import as_fault
from protos.v1.collaboration_pb2 import (
    Answer,
    Ask,
    Contribute,
    Contributed,
    GroupRequest,
    Hello,
    Overlay,
    Rank,
    Refresh,
    Scores,
    Stored,
    Upload,
    Welcome,
)
from shared_models.contract.errors import AccessRefused, BadAsk
from shared_models.contract.events import PAD, Event, EventBatch
from shared_models.contract.traffic import CONTRIBUTE, CONTROL, GROUP, RANK, REFRESH, UPLOAD

_PURPOSES: Final[Mapping[str, str]] = {
    "refresh": REFRESH,
    "group": GROUP,
    "rank": RANK,
    "upload": UPLOAD,
    "contribute": CONTRIBUTE,
}
"""By kind of ask; all others are control."""
_NO_KIND: Final = "none"
"""Of an ask that is empty, or no message of this protocol."""
_WAITED_FOR: Final = (REFRESH, GROUP, RANK)
"""What a ranking may wait for, so that it is told where the time went."""


class Session:
    """One device's conversation: it opens with a hello, and a bad ask does not end it.

    Args:
        services: what it has in common with others.
        prove: says whose a session with such a hello is, or refuses it.
    """

    def __init__(self, services: Services, prove: Prove = believed) -> None:
        self._services, self._prove = services, prove
        self._device: _Device | None = None
        self._user: int | None = None
        self._pace = services.paces.fresh()

    async def reply(self, data: bytes) -> bytes:
        """Answer one ask, both as they cross the wire; the exchange goes into the ledger."""
        ask, answer, stay, start = Ask(), Answer(), Stay(), time.perf_counter()
        with as_fault(answer):
            ask = _parsed(data)
            answer.seq = ask.seq
            await self._fill(answer, ask, stay)
        reply = answer.SerializeToString()
        kind = ask.WhichOneof("body") or _NO_KIND
        purpose = _PURPOSES.get(kind, CONTROL)
        times = stay if purpose in _WAITED_FOR else None
        self._services.ledger.enter(self._user, purpose, ask.seq, (len(data), len(reply)), times)
        if answer.HasField("fault"):
            self._services.faults.tell(kind, answer.fault)
        status = answer.fault.code or OK
        self._services.counts.answered(kind, status, time.perf_counter() - start)
        self._services.counts.carried(purpose, len(data), len(reply))
        return reply

    def end(self) -> None:
        """The device has hung up."""
        self._end_turn()
        self._services.paces.leave(self._pace)

    def _end_turn(self) -> None:
        if self._device is not None:
            self._services.turns.end(self._device.user, self._device.turn)

    async def _fill(self, answer: Answer, ask: Ask, stay: Stay) -> None:
        kind = ask.WhichOneof("body")
        await keep_to(self._pace, waits=self._device is not None and self._device.waits)
        if kind == "hello":
            self._user = self._proved(ask.hello)
            self._pace = self._services.paces.of(self._user)
            await keep_to(self._pace, waits=ask.hello.waits)
            answer.welcome.CopyFrom(await self._open(self._user, ask.hello))
            return
        if self._device is None:
            raise BadAsk("a session opens with a hello")
        match kind:
            case "refresh":
                answer.overlay.CopyFrom(await self._device.refresh(ask.refresh, ask.round, stay))
            case "group":
                answer.overlay.CopyFrom(await self._device.group(ask.group, ask.round, stay))
            case "rank":
                answer.scores.CopyFrom(await self._device.rank(ask.rank, stay))
            case "upload":
                answer.stored.CopyFrom(await self._device.upload(ask.upload))
            case "contribute":
                taken = await self._device.contribute(ask.contribute, ask.round)
                answer.contributed.CopyFrom(taken)
            case _:
                raise BadAsk("the ask is empty, or newer than this cloud")

    def _proved(self, hello: Hello) -> int:
        """The user that this session reads and writes for from its first hello to its end.

        Raises:
            AccessRefused: it is not proved, the session is another user's, or it would belong to
                a replay, and this cloud takes part in none.
        """
        if hello.waits and not self._services.replays:
            raise AccessRefused("this cloud takes part in no replay: serve with replays=true")
        user = self._prove(hello)
        if self._user not in (None, user):
            raise AccessRefused("a session is one user's: open another one")
        return user

    async def _open(self, user: int, hello: Hello) -> Welcome:
        if len(hello.profile) > self._services.largest_list:
            raise BadAsk(f"a profile of {len(hello.profile)} values")
        served = await self._services.models.served(hello.bundle_id)
        # Before the count is read: what an older session still brings is not in it.
        turn = self._services.turns.begin(user)
        try:
            stored = await self._services.uploads.stored(user, waits=hello.waits)
            desk, contributed = served.desk, 0
            if desk is not None:
                contributed = await desk.stored(user, waits=hello.waits)
        except BaseException:
            self._services.turns.end(user, turn)
            raise
        profile = tuple(hello.profile)
        self._end_turn()
        self._device = _Device(
            user, hello.waits, served, self._services, turn, profile, hello.audit
        )
        return Welcome(events_stored=stored, contributions_stored=contributed)


@dataclass(frozen=True, slots=True)
class _Device:
    """Who asks: a user as it was proved, the rest as the hello said it."""

    user: int
    waits: bool
    served: Served
    services: Services
    turn: object
    profile: tuple[int, ...] = ()
    audit: bool = False

    async def refresh(self, refresh: Refresh, round_: int, stay: Stay) -> Overlay:
        """New slot values.

        Raises:
            BadAsk: the bundle's method writes none, the list is too long, or a newer session of
                the user has begun and what this one says is remembered.
        """
        self._bound(len(refresh.items))
        if self.served.personalizer is None:
            raise BadAsk("the method of this bundle writes no slots")
        if self.served.manifest.memory is not None:
            self.services.turns.require(self.user, self.turn)
        stored = 0
        if refresh.HasField("pending"):
            stored = (await self.upload(refresh.pending)).events_stored
        asked = self.served.personalizer.read(
            self.user, self._now(round_), refresh, stored, audit=self.audit
        )
        return await self.served.personalizer.overlay_for(
            asked, waits=self.waits, expires=self._expires(), stay=stay
        )

    async def group(self, wanted: GroupRequest, round_: int, stay: Stay) -> Overlay:
        """What a group shares, or this user's own one.

        Raises:
            BadAsk: the bundle has no such group.
        """
        have = wanted.have if wanted.HasField("have") else None
        if self.served.desk is not None and not wanted.number:
            now = self._now(round_)
            return await self.served.desk.values(self.user, now, have, waits=self.waits, stay=stay)
        groups = self.served.groups
        number = wanted.number or self.served.assignment.of(self.user)
        if not 1 <= number <= len(groups):
            raise BadAsk(f"this bundle has {len(groups)} groups, and none {number}")
        if wanted.number:
            return groups[number - 1]
        # What the bundle itself holds is version 0 for ever.
        return Overlay(slots=groups[number - 1].slots if have is None else (), group=number)

    async def contribute(self, contribution: Contribute, round_: int) -> Contributed:
        """What a device learnt onto the disk, then the word that it is there.

        Raises:
            BadAsk: the devices of this bundle do not learn together.
        """
        if self.served.desk is None:
            raise BadAsk("the devices of this bundle do not learn together")
        self.services.turns.require(self.user, self.turn)
        now = self._now(round_)
        return await self.served.desk.take(self.user, now, contribution, waits=self.waits)

    async def rank(self, rank: Rank, stay: Stay) -> Scores:
        """The cloud's scores.

        Raises:
            BadAsk: the bundle's method does not rank in the cloud, a list is too long, or it is
                not said what to rank.
        """
        self._bound(max(len(rank.items), len(rank.candidates), rank.retrieve))
        if bool(rank.candidates) == bool(rank.retrieve):
            raise BadAsk("name candidates, or say how many to retrieve")
        if self.served.ranker is None:
            raise BadAsk("the method of this bundle does not rank in the cloud")
        return await self.served.ranker.scores_for(
            rank, self.profile, waits=self.waits, expires=self._expires(), stay=stay
        )

    async def upload(self, upload: Upload) -> Stored:
        """Events onto the disk, then the word that they are there.

        Raises:
            BadAsk: the bundle allows no uploads, these are malformed or leave a gap, or a newer
                session of the user has begun.
        """
        if not self.served.manifest.uploads:
            raise BadAsk("this bundle allows no uploads")
        self._bound(max(len(upload.items), len(upload.times)))
        batch = EventBatch(upload.first, _events(upload))
        self.services.turns.require(self.user, self.turn)
        stored = await self.services.uploads.store(self.user, batch, waits=self.waits)
        failpoint("upload.before-acknowledge")
        return Stored(events_stored=stored)

    def _now(self, round_: int) -> int:
        """Only a replay has rounds; elsewhere they would be the devices' to invent."""
        return round_ if self.waits else LIVE

    def _bound(self, length: int) -> None:
        if length > self.services.largest_list:
            raise BadAsk(f"{length} entries in one ask, at most {self.services.largest_list}")

    def _expires(self) -> float | None:
        """When nobody wants the answer any more; a replay always does: load must not alter it."""
        if self.waits:
            return None
        return time.monotonic() + self.services.patience_s


def _parsed(data: bytes) -> Ask:
    try:
        return Ask.FromString(data)
    except DecodeError as error:
        raise BadAsk("the ask is no message of this protocol") from error


def _events(upload: Upload) -> list[Event]:
    if len(upload.items) != len(upload.times):
        raise BadAsk(f"{len(upload.items)} items came with {len(upload.times)} times")
    if PAD in upload.items or not all(map(math.isfinite, upload.times)):
        raise BadAsk("an event needs an item from 1 on and a finite time")
    return list(map(Event, upload.items, upload.times))
