"""Identities in a run: those of the processes that it starts, and the simulator's own gate."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from grpc import aio
from grpc_health.v1 import health

from protos.v1 import simulation_pb2
from protos.v1.simulation_pb2 import Tokens
from shared_models.contract.errors import TokenRefused
from shared_models.contract.security import (
    AuthContext,
    ProcessIdentity,
    Role,
    peer_of,
    read_identity,
)
from shared_models.identity.door import EVERY_ROLE, Access, Door, open_door
from shared_models.identity.tokens import Clock, Issuer, read_issuer

ACCESS: Final[Access] = {
    simulation_pb2.DESCRIPTOR.services_by_name["Simulation"].full_name: (Role.DEVICE,),
    health.SERVICE_NAME: EVERY_ROLE,
}
_MOST_USERS: Final = 1024
Holds = Callable[[int], bool]
"""Whether a process with the certificate in question has a user's device."""


@dataclass(frozen=True, slots=True)
class Identities:
    """Who the processes of a run on this machine are.

    Attributes:
        own: the simulator's; None: in clear.
        home: folder with the others under the names of their roles.
        plaintext: in clear also off loopback.
    """

    own: ProcessIdentity | None = None
    home: Path | None = None
    plaintext: bool = False

    def option(self, role: Role) -> tuple[str, ...]:
        """Arguments of a command line that tell a process of ``role`` who it is."""
        if self.home is None:
            return ("--plaintext",) if self.plaintext else ()
        return ("--identity", str(self.home / role))

    def of(self, role: Role) -> ProcessIdentity | None:
        """What a process of ``role`` that runs here proves itself with; None: in clear.

        Raises:
            InputError: it is not there, or is of no use.
        """
        return None if self.home is None else read_identity(self.home / role)


IN_CLEAR: Final = Identities()


def read_identities(home: Path | None, started: Sequence[Role] = ()) -> Identities:
    """The simulator's identity and those of what it starts: folders of ``home`` named by role.

    Raises:
        InputError: one of them is not there, or is of no use.
    """
    if home is None:
        return IN_CLEAR
    for role in started:
        read_identity(home / role)
    return Identities(read_identity(home / Role.SIMULATOR), home.resolve())


class Gate(Protocol):
    """Who may come in, and what is given to them."""

    @property
    def interceptors(self) -> Sequence[aio.ServerInterceptor]:
        """What a server puts before every call."""
        ...

    def thumbprint(self, auth: AuthContext) -> bytes:
        """SHA-256 of the certificate at the other end of a connection; empty without one."""
        ...

    def tokens(self, users: Sequence[int], holds: Holds, thumbprint: bytes) -> Tokens:
        """Tokens of ``users`` for the certificate that ``holds`` speaks of."""
        ...

    async def watch(self) -> None:
        """Keep out whoever loses the right to be in; runs as long as the server."""
        ...


def gate_of(identity: ProcessIdentity | None, clock: Clock = time.time) -> Gate:
    """The gate of a simulator with this identity, or without one.

    Args:
        identity: its folder holds the CRL and the key that signs tokens.
        clock: seconds since 1970.

    Raises:
        InputError: one of them is not there, or is of no use.
    """
    if identity is None:
        return OpenGate()
    return GuardedGate(open_door(identity, ACCESS), read_issuer(identity.folder, clock))


class OpenGate:
    """Lets everybody in: for loopback, and where the user wants it."""

    interceptors: Sequence[aio.ServerInterceptor] = ()

    def thumbprint(self, _: AuthContext) -> bytes:
        """Empty: nobody shows a certificate."""
        return b""

    def tokens(self, users: Sequence[int], holds: Holds, thumbprint: bytes) -> Tokens:  # noqa: ARG002
        """Raises `TokenRefused`: there is nothing that a token could be bound to."""
        raise TokenRefused("this simulation is in clear: no token is needed, and none is given")

    async def watch(self) -> None:
        """Nobody is ever turned out."""


class GuardedGate:
    """Lets devices in by certificate, and gives them tokens of the users that they hold.

    Args:
        door: reads the certificates.
        issuer: signs the tokens.
    """

    def __init__(self, door: Door, issuer: Issuer) -> None:
        self.interceptors: Sequence[aio.ServerInterceptor] = (door,)
        self._door, self._issuer = door, issuer

    def thumbprint(self, auth: AuthContext) -> bytes:
        """SHA-256 of the certificate at the other end of a connection."""
        return peer_of(auth).thumbprint

    def tokens(self, users: Sequence[int], holds: Holds, thumbprint: bytes) -> Tokens:
        """A token for each of ``users``.

        Raises:
            TokenRefused: they are too many, or another process has one of them.
        """
        if len(users) > _MOST_USERS:
            raise TokenRefused(f"{len(users)} users in one request, at most {_MOST_USERS}")
        for user in users:
            if not holds(user):
                raise TokenRefused(f"user {user} is with another process")
        made = [self._issuer.token(user, thumbprint) for user in users]
        return Tokens(tokens=made, lifetime_s=self._issuer.lifetime_s)

    async def watch(self) -> None:
        """Turn out, within seconds, whose certificate is revoked."""
        await self._door.watch()
