"""A CA, a foreign one, and every kind of certificate that somebody may come with."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from shared_models.contract.security import ProcessIdentity, Role, dial, peer_of, read_identity
from shared_models.identity.tokens import Issuer, read_issuer
from simulator.certificates import Request
from simulator.certs import establish, issue, revoke

NOW = datetime.now(UTC)
HANDSHAKE = ("in clear", "without", "foreign", "expired")
"""Who does not get through TLS."""


async def settled(ask: Callable[[], Awaitable[grpc.StatusCode]]) -> grpc.StatusCode:
    """The status that a server ended a call with, where the call may still be writing.

    When that status comes amid a write, gRPC's asyncio client loses it and says INTERNAL of itself
    (`Call.set_internal_error`): then the call is made again.
    """
    code, tries = await ask(), 1
    while code is grpc.StatusCode.INTERNAL and tries < 10:
        code, tries = await ask(), tries + 1
    return code


@dataclass(frozen=True)
class Authority:
    """A CA of a test, and the identities that it issued under their names."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        establish(folder / "ca", NOW - timedelta(days=400))
        return cls(folder)

    @property
    def ca(self) -> Path:
        return self.folder / "ca"

    def add(
        self,
        role: Role,
        name: str,
        *,
        days: int = 30,
        at: datetime = NOW,
        hosts: Sequence[str] = (),
    ) -> Path:
        issue(self.ca, Request(role, name, hosts, days), self.folder / name, at)
        return self.folder / name

    def revoke(self, name: str, *publish: Path) -> None:
        revoke(self.ca, name, publish, NOW)

    def identity(self, name: str) -> ProcessIdentity:
        return read_identity(self.folder / name)

    def issuer(self, seconds_ago: float = 0.0, lifetime_s: float = 900.0) -> Issuer:
        return read_issuer(self.ca, lambda: datetime.now(UTC).timestamp() - seconds_ago, lifetime_s)


@dataclass(frozen=True)
class Visitors:
    """Everybody who may knock at a door: by name, as in `HANDSHAKE`, or a name of the CA's."""

    authority: Authority
    foreign: Authority

    @classmethod
    def gather(cls, folder: Path) -> "Visitors":
        ours, theirs = Authority.make(folder / "ours"), Authority.make(folder / "theirs")
        ours.add(Role.DEVICE, "revoked")
        ours.revoke("revoked")
        ours.add(Role.CLOUD, "cloud")
        ours.add(Role.SIMULATOR, "simulator")
        ours.add(Role.DEVICE, "device")
        ours.add(Role.DEVICE, "other-device")
        ours.add(Role.DEVICE, "expired", days=1, at=NOW - timedelta(days=3))
        theirs.add(Role.DEVICE, "foreign")
        return cls(ours, theirs)

    def dial(self, address: str, who: str, options: Sequence[tuple[str, Any]] = ()) -> aio.Channel:
        if who == "in clear":
            return aio.insecure_channel(address, options=options)
        if who == "without":
            root = self.authority.identity("device").authority
            return aio.secure_channel(address, grpc.ssl_channel_credentials(root), options=options)
        if who == "foreign":
            theirs, root = self.foreign.identity(who), self.authority.identity("device").authority
            shown = grpc.ssl_channel_credentials(root, theirs.key, theirs.certificate)
            return aio.secure_channel(address, shown, options=options)
        return dial(address, self.authority.identity(who), options)

    def thumbprint(self, who: str) -> bytes:
        pem = self.authority.identity(who).certificate
        uri = b"concerto://device/any"
        return peer_of({"x509_pem_cert": [pem], "peer_uri": [uri]}).thumbprint

    def token(self, user: int, who: str = "device", **issuer: float) -> str:
        return self.authority.issuer(**issuer).token(user, self.thumbprint(who))
