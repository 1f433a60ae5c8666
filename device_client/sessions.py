"""Open streams of devices, and the one place where gRPC's errors become ours."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from grpc import StatusCode, aio

from device_client.cloud import Identity
from device_client.ledger import DeviceLedger
from protos.v1.collaboration_pb2 import Answer, Ask, Fault
from shared_models.contract.errors import (
    AccessRefused,
    BadAsk,
    BundleCorrupt,
    BundleIncompatible,
    CertificateRefused,
    CloudUnavailable,
    ConcertoError,
    Overloaded,
    SlotMismatch,
    TokenRefused,
    UnknownBundle,
)

ByteStream = aio.StreamStreamCall[bytes, bytes]
# A stream tells of its end in any of these, whichever call comes first.
_BROKEN: Final = (aio.AioRpcError, aio.UsageError, asyncio.InvalidStateError, DecodeError)
_KINDS: Final[tuple[type[ConcertoError], ...]] = (
    AccessRefused,
    BadAsk,
    BundleCorrupt,
    BundleIncompatible,
    CertificateRefused,
    SlotMismatch,
    TokenRefused,
    UnknownBundle,
)
_REFUSALS: Final = {kind.code: kind for kind in _KINDS}


@dataclass(frozen=True, slots=True)
class Line:
    """What all sessions of a process share.

    Attributes:
        address: the cloud's, for messages.
        ledger: counts what goes over them.
        deadline_s: seconds that an answer may take; None to wait.
    """

    address: str
    ledger: DeviceLedger
    deadline_s: float | None


@dataclass(frozen=True, slots=True)
class Exchanged:
    """An answer, and the payload bytes of both messages."""

    answer: Answer
    bytes_up: int
    bytes_down: int


class Session:
    """An open stream of one device: one ask at a time. Whatever breaks it, closes it.

    Args:
        who: whose stream it is.
        call: the stream, of serialised messages.
        line: what it shares with the other sessions of a process.
        on_close: told once, when it has closed.

    Attributes:
        is_open: false once it broke or was closed.
        is_busy: true while an answer is awaited.
        events_stored: what the journal held of this user as the session began.
        contributions_stored: how many contributions of this user were accepted, as last told.
    """

    __slots__ = (
        "_call",
        "_line",
        "_on_close",
        "contributions_stored",
        "events_stored",
        "is_busy",
        "is_open",
        "who",
    )

    def __init__(
        self,
        who: Identity,
        call: ByteStream,
        line: Line,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.who, self._call, self._line, self._on_close = who, call, line, on_close
        self.is_open, self.is_busy = True, False
        self.events_stored = self.contributions_stored = 0

    async def exchange(self, ask: Ask, purpose: str) -> Exchanged:
        """Send ``ask`` and read its answer.

        Raises:
            CloudUnavailable: the stream broke, and this session is closed.
            CertificateRefused: the cloud turned this process out; so is this session.
            ConcertoError: the cloud refused the ask; the session lives on.
        """
        self.is_busy = True
        try:
            exchanged = await self._exchanged(ask, purpose)
        except (CloudUnavailable, AccessRefused, asyncio.CancelledError):
            self._line.ledger.streams.broken += 1
            self.close()
            raise
        finally:
            self.is_busy = False
        if exchanged.answer.HasField("fault"):
            raise error_of(exchanged.answer.fault)
        return exchanged

    def close(self) -> None:
        """Hang up; a session that is closed stays closed."""
        if self.is_open:
            self.is_open = False
            self._line.ledger.streams.reset += 1
            self._call.cancel()
            self._on_close()

    async def _exchanged(self, ask: Ask, purpose: str) -> Exchanged:
        address, ledger, user = self._line.address, self._line.ledger, self.who.user
        data = ask.SerializeToString()
        with translated(address):
            async with asyncio.timeout(self._line.deadline_s):
                await self._call.write(data)
                ledger.sent(user, purpose, len(data))
                reply = await self._call.read()
            if not isinstance(reply, bytes):
                raise CloudUnavailable(f"the cloud at {address} ended the session")
            ledger.received(user, purpose, len(reply))
            answer = Answer.FromString(reply)
        if answer.seq != ask.seq:
            raise CloudUnavailable(f"the cloud answered ask {answer.seq}, not {ask.seq}")
        return Exchanged(answer, len(data), len(reply))


class SessionPool:
    """Sessions by user, at most ``bound`` of them; the longest unused idle one makes room."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._sessions: OrderedDict[int, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, who: Identity) -> Session | None:
        """The open session of ``who``; one that broke or is for another bundle is forgotten."""
        session = self._sessions.get(who.user)
        if session is None:
            return None
        if session.is_open and session.who == who:
            self._sessions.move_to_end(who.user)
            return session
        self._close(session)
        return None

    def add(self, session: Session) -> None:
        """Take in a new session."""
        if len(self._sessions) >= self._bound:
            self._make_room()
        self._sessions[session.who.user] = session

    def close(self) -> None:
        """Close all of them."""
        for session in list(self._sessions.values()):
            self._close(session)

    def _make_room(self) -> None:
        idle = next((each for each in self._sessions.values() if not each.is_busy), None)
        if idle is not None:
            self._close(idle)

    def _close(self, session: Session) -> None:
        session.close()
        del self._sessions[session.who.user]


def error_of(fault: Fault) -> ConcertoError:
    """The error that a fault names, with the cloud's words; its parts stay in the cloud."""
    if fault.code == Overloaded.code:
        return Overloaded(fault.retry_after_ms)
    kind = _REFUSALS.get(fault.code, CloudUnavailable)
    # Not through __init__: that builds its message out of parts, and here is the message itself.
    error = kind.__new__(kind, fault.message)
    error.args = (fault.message,)
    return error


@contextmanager
def translated(address: str, **refusals: ConcertoError) -> Iterator[None]:
    """Turn what gRPC raises into errors of ours.

    Args:
        address: the cloud's, for messages.
        refusals: errors by the name of the status that stands for them; others mean that the
            cloud is not available.
    """
    try:
        yield
    except TimeoutError as error:
        raise CloudUnavailable(
            f"the cloud at {address} did not answer in time: is it running, is the address "
            "right, and do both sides have an identity of one CA, or neither?"
        ) from error
    except asyncio.CancelledError as error:
        if is_our_own_cancellation():
            raise
        raise CloudUnavailable(f"the cloud at {address} ended the call") from error
    except aio.AioRpcError as error:
        refusal = refusals.get(error.code().name) or turned_out(f"the cloud at {address}", error)
        raise refusal or CloudUnavailable(_words(address, error)) from error
    except _BROKEN as error:
        raise CloudUnavailable(f"the stream to {address} broke: {error}") from error


def is_our_own_cancellation() -> bool:
    """grpc.aio reports a stream that the *server* cancelled as if this task had been."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def turned_out(place: str, error: Exception) -> CertificateRefused | None:
    """What gRPC means where ``place`` lets this process not in; None where it means another thing.

    Args:
        place: such as ``the cloud at HOST:PORT``, for the message.
        error: as gRPC raised it.
    """
    if isinstance(error, aio.AioRpcError) and error.code() is StatusCode.PERMISSION_DENIED:
        return CertificateRefused(f"{place} lets this process not in: {error.details()}")
    return None


def _words(address: str, error: aio.AioRpcError) -> str:
    return f"the cloud at {address} did not answer: {error.code().name}, {error.details()}"
