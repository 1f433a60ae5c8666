"""The one door of a server over mutual TLS: which role may call what, and who is out at once.

TLS has seen to it that a certificate is of our CA and in its time. The door reads the role out of
it, and the CRL: no call begins, and none goes on, under a certificate that was revoked.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import grpc
from grpc import StatusCode, aio
from typing_extensions import override

from shared_models.contract.errors import CertificateRefused
from shared_models.contract.security import ProcessIdentity, Role, demand
from shared_models.identity.revocations import REVOKED, Revocations, serial_of

Access = Mapping[str, tuple[Role, ...]]
"""Roles by the full name of the service that they may call; what is not there is for nobody."""
EVERY_ROLE: Final = tuple(Role)
LOOK_S: Final = 1.0
"""Seconds between looks at the CRL: an open call of a revoked certificate ends within about it."""
Context = aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Any]


class Door(aio.ServerInterceptor):
    """Lets calls in by role, and turns revoked certificates out.

    Args:
        access: who may call what.
        revocations: of the CA.
    """

    def __init__(self, access: Access, revocations: Revocations) -> None:
        self._access, self._revocations = access, revocations
        self._open: dict[asyncio.Timeout, int] = {}

    @override
    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of a call, behind the door."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        service = handler_call_details.method.rpartition("/")[0].lstrip("/")
        return self._behind(handler, self._access.get(service, ()))

    async def watch(self, every_s: float = LOOK_S) -> None:
        """Look at the CRL every so many seconds, for ever."""
        while True:
            await asyncio.sleep(every_s)
            if self._revocations.look():
                self._turn_out()

    def _turn_out(self) -> None:
        now = asyncio.get_running_loop().time()
        for call, serial in self._open.items():
            if serial in self._revocations:
                call.reschedule(now)

    @asynccontextmanager
    async def _admitted(self, context: Context, roles: tuple[Role, ...]) -> AsyncIterator[None]:
        """Hold the door for one call.

        Raises:
            CertificateRefused: it may not begin, or its certificate was revoked since.
        """
        peer = demand(context.auth_context(), *roles)
        serial = serial_of(peer.certificate)
        if serial in self._revocations:
            raise CertificateRefused(f"the certificate of {peer} was revoked")
        # A deadline that comes only if the certificate is revoked.
        call = asyncio.timeout(None)
        self._open[call] = serial
        try:
            async with call:
                yield
        except TimeoutError as error:
            if not call.expired():
                raise
            raise CertificateRefused(f"the certificate of {peer} was revoked") from error
        finally:
            del self._open[call]

    def _behind(self, handler: Any, roles: tuple[Role, ...]) -> Any:
        """``handler`` with its behaviour behind the door, whatever kind it is of."""
        kind = f"{_arity(handler.request_streaming)}_{_arity(handler.response_streaming)}"
        behaviour: Behaviour = getattr(handler, kind)

        async def guarded(request: Any, context: Context) -> Any:
            try:
                async with self._admitted(context, roles):
                    return await _answered(behaviour, request, context)
            except CertificateRefused as error:
                await context.abort(StatusCode.PERMISSION_DENIED, str(error))

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(guarded, handler.request_deserializer, handler.response_serializer)


def open_door(identity: ProcessIdentity, access: Access) -> Door:
    """The door of a server with this identity, whose folder holds the CRL.

    Raises:
        InputError: the CRL is not there, or is of no use.
    """
    return Door(access, Revocations(identity.folder / REVOKED, identity.authority))


async def _answered(behaviour: Behaviour, request: Any, context: Context) -> Any:
    """What ``behaviour`` answers; of a stream, each message leaves as it comes."""
    answer = behaviour(request, context)
    if inspect.isasyncgen(answer):
        async with aclosing(answer):
            async for message in answer:
                await context.write(message)
        return None
    return await answer


def _arity(streaming: bool) -> str:
    return "stream" if streaming else "unary"
