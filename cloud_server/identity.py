"""The gate of the cloud: from a connection and a hello to the user whose state is read and written.

Nothing else in the cloud decides who somebody is. A session takes its user from here, and every ask
in it is that user's.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from grpc import aio
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from protos.v1 import collaboration_pb2
from protos.v1.collaboration_pb2 import Hello
from shared_models.contract.errors import TokenRefused
from shared_models.contract.security import AuthContext, ProcessIdentity, Role, peer_of
from shared_models.identity.door import EVERY_ROLE, Access, Door, open_door
from shared_models.identity.tokens import Clock, Verifier, read_verifier

Prove = Callable[[Hello], int]
"""The user whose a session with such a hello is; raises `AccessRefused`."""
_COLLABORATION: Final = collaboration_pb2.DESCRIPTOR.services_by_name["Collaboration"].full_name
ACCESS: Final[Access] = {
    _COLLABORATION: (Role.DEVICE,),
    health.SERVICE_NAME: EVERY_ROLE,
    reflection.SERVICE_NAME: EVERY_ROLE,
}


class Gate(Protocol):
    """Who may come in, and as whom."""

    @property
    def interceptors(self) -> Sequence[aio.ServerInterceptor]:
        """What a server puts before every call."""
        ...

    def prover(self, auth: AuthContext) -> Prove:
        """Says whose the sessions on a connection are."""
        ...

    async def watch(self) -> None:
        """Keep out whoever loses the right to be in; runs as long as the server."""
        ...


def gate_of(identity: ProcessIdentity | None, clock: Clock = time.time) -> Gate:
    """The gate of a cloud with this identity, or without one.

    Args:
        identity: its folder holds the CRL and the public key of tokens.
        clock: seconds since 1970.

    Raises:
        InputError: one of them is not there, or is of no use.
    """
    if identity is None:
        return OpenGate()
    return GuardedGate(open_door(identity, ACCESS), read_verifier(identity.folder, clock))


def believed(hello: Hello) -> int:
    """The user that a hello names, unproved: for connections in clear."""
    return hello.user


class OpenGate:
    """Lets everybody in as whom they say they are: for loopback, and where the user wants it."""

    interceptors: Sequence[aio.ServerInterceptor] = ()

    def prover(self, _: AuthContext) -> Prove:
        """Believes every hello."""
        return believed

    async def watch(self) -> None:
        """Nobody is ever turned out."""


class GuardedGate:
    """Lets in by certificate, and as the user of a token.

    Args:
        door: reads the certificates.
        tokens: reads the tokens.
    """

    def __init__(self, door: Door, tokens: Verifier) -> None:
        self.interceptors: Sequence[aio.ServerInterceptor] = (door,)
        self._door, self._tokens = door, tokens

    def prover(self, auth: AuthContext) -> Prove:
        """Believes a hello with a token of its user that is bound to this connection."""
        thumbprint = peer_of(auth).thumbprint

        def prove(hello: Hello) -> int:
            user = self._tokens.user(hello.token, thumbprint)
            if user != hello.user:
                raise TokenRefused(f"the token is of another user than {hello.user}")
            return user

        return prove

    async def watch(self) -> None:
        """Turn out, within seconds, whose certificate is revoked."""
        await self._door.watch()
