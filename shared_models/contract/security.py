"""Who talks to whom over a network: identities of processes, and when plaintext is allowed.

An *identity* is a folder: ``ca.pem``, ``cert.pem`` and ``key.pem``, as ``concerto certs issue``
leaves them. With one, a connection is mutual TLS: each end shows a certificate of the same CA. What
a process may do is its *role*, which stands in its certificate as the URI ``concerto://ROLE/NAME``.
Without one, everything crosses in clear, which goes without saying on loopback only.
"""

import errno
import hashlib
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import grpc
from grpc import aio
from typing_extensions import override

from shared_models.contract.errors import (
    BadSetting,
    CertificateRefused,
    InputError,
    PathMissing,
    PortTaken,
)

AUTHORITY: Final = "ca.pem"
CERTIFICATE: Final = "cert.pem"
KEY: Final = "key.pem"
_LAST_PORT: Final = 65535
SCHEME: Final = "concerto://"
AuthContext = Mapping[str, Iterable[bytes]]
"""What gRPC knows of the other end: `grpc.ServicerContext.auth_context()`."""


class Role(StrEnum):
    """What a process is, and so what it may do."""

    CLOUD = "cloud"
    SIMULATOR = "simulator"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """What a process proves itself with, and knows others by; PEM.

    Attributes:
        folder: where it was read from.
        authority: the CA's certificate.
        certificate: the process's own.
        key: the certificate's private key.
    """

    folder: Path
    authority: bytes
    certificate: bytes
    key: bytes = field(repr=False)

    @property
    def server(self) -> grpc.ServerCredentials:
        """For a server that lets in whoever shows a certificate of the same CA, and nobody else."""
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)], self.authority, require_client_auth=True
        )

    @property
    def channel(self) -> grpc.ChannelCredentials:
        """For a channel to a server of the same CA."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection, as its certificate says.

    Attributes:
        role: what it is.
        name: which one.
        certificate: DER.
    """

    role: Role
    name: str
    certificate: bytes = field(repr=False)

    @property
    def thumbprint(self) -> bytes:
        """SHA-256 of the certificate: no other one has it."""
        return hashlib.sha256(self.certificate).digest()

    @override
    def __str__(self) -> str:
        return f"{self.role} {self.name!r}"


def read_identity(folder: Path) -> ProcessIdentity:
    """The identity in ``folder``.

    Raises:
        PathMissing: the folder, or one of its files, is not there.
        BadSetting: a file is no PEM, or the key is not the certificate's.
    """
    if not folder.is_dir():
        raise PathMissing(folder, "folder of an identity: `concerto certs issue` makes one")
    paths = [folder / name for name in (AUTHORITY, CERTIFICATE, KEY)]
    for path in paths:
        if not path.is_file():
            raise PathMissing(path, "file of an identity: `concerto certs issue` makes them")
    _check(*paths)
    return ProcessIdentity(folder, *(path.read_bytes() for path in paths))


def secured(
    setting: str, address: str, identity: Path | None, *, plaintext: bool
) -> ProcessIdentity | None:
    """What protects connections at ``address``: an identity, or None where they are in clear.

    Args:
        setting: that names the address, for messages.
        address: HOST:PORT to listen at or to dial.
        identity: folder of the process's identity.
        plaintext: whether the user wants it in clear, wherever it goes.

    Raises:
        BadSetting: it is no address; it would leave this machine in clear and nobody said so; or
            both were given.
        InputError: the identity cannot be used.
    """
    _require_address(setting, address)
    if identity is not None and plaintext:
        raise BadSetting("plaintext", "contradicts --identity: give one of them")
    if identity is not None:
        return read_identity(identity)
    if not plaintext and not is_loopback(address):
        raise BadSetting(
            setting,
            f"{address} reaches beyond this machine: give --identity DIR, which `concerto certs "
            "issue` makes, or say --plaintext to let anybody read along and join",
        )
    return None


def is_loopback(address: str) -> bool:
    """Whether what goes to or comes from HOST:PORT stays on this machine for certain."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(server: aio.Server, address: str, identity: ProcessIdentity | None) -> str:
    """Let ``server`` listen at HOST:PORT; gives that address, with the port that was free for 0.

    Raises:
        PortTaken: another program listens there.
        BadSetting: it is no address, or there is no such one here.
    """
    _require_address("listen", address)
    try:
        if identity is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, identity.server)
    except RuntimeError as error:
        raise _refusal(address) from error
    return f"{address.rpartition(':')[0]}:{port}"


def _require_address(setting: str, address: str) -> None:
    """Refuse what gRPC would take for another address than it seems to be."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _LAST_PORT:
        raise BadSetting(setting, f"write HOST:PORT, such as 127.0.0.1:50051, not {address!r}")


def _refusal(address: str) -> InputError:
    """Why nothing can listen there; gRPC tells only its log."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return BadSetting("listen", f"{address}: {error.strerror}")
    return PortTaken(address)


def dial(
    address: str, identity: ProcessIdentity | None, options: Sequence[tuple[str, Any]] = ()
) -> aio.Channel:
    """A channel to HOST:PORT; with an identity, the server must prove that HOST is its name."""
    if identity is None:
        return aio.insecure_channel(address, options=options)
    return aio.secure_channel(address, identity.channel, options=options)


def dial_blocking(
    address: str, identity: ProcessIdentity | None, options: Sequence[tuple[str, Any]] = ()
) -> grpc.Channel:
    """As `dial`, for code that waits in threads."""
    if identity is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, identity.channel, options=options)


def peer_of(auth: AuthContext) -> Peer:
    """Who is at the other end of a connection over mutual TLS.

    Raises:
        CertificateRefused: its certificate names no role, or there is none.
    """
    shown = [pem.decode() for pem in auth.get("x509_pem_cert", ())]
    names = [uri.decode() for uri in auth.get("peer_uri", ()) if uri.startswith(SCHEME.encode())]
    if len(shown) != 1 or len(names) != 1:
        raise CertificateRefused(
            "a certificate that names one role is needed: concerto://ROLE/NAME"
        )
    role, _, name = names[0].removeprefix(SCHEME).partition("/")
    if role not in set(Role):
        raise CertificateRefused(f"the certificate is of an unknown role, {role!r}")
    return Peer(Role(role), name, ssl.PEM_cert_to_DER_cert(shown[0]))


def demand(auth: AuthContext, *roles: Role) -> Peer:
    """The other end of a connection, which must be of one of ``roles``.

    Raises:
        CertificateRefused: it is not.
    """
    peer = peer_of(auth)
    if peer.role not in roles:
        raise CertificateRefused(f"this is not for {peer}: it takes a {' or a '.join(roles)}")
    return peer


def _check(authority: Path, certificate: Path, key: Path) -> None:
    """See whether OpenSSL can read the three, and whether they fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(authority)
    except ssl.SSLError as error:
        raise BadSetting("identity", f"{authority} holds no certificate in PEM") from error
    try:
        context.load_cert_chain(certificate, key, password=b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadSetting("identity", f"{key} is not the key of {certificate}") from error
        raise BadSetting(
            "identity", f"{certificate} and {key} must hold a certificate and its key in PEM"
        ) from error
