"""What the kernel knows of this process's own TCP connections: bytes sent and received.

Linux only, by ``TCP_INFO``; elsewhere there is nothing to read. The kernel counts what TCP carried:
payload, gRPC and HTTP/2 framing, not IP headers and not what was sent twice.
"""

import asyncio
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Final

# Offsets in `struct tcp_info` of linux/tcp.h.
_STATE: Final = struct.Struct("=B")
_RECEIVED: Final = (struct.Struct("=Q"), 128)
_NOT_SENT: Final = (struct.Struct("=I"), 144)
_SENT_AND_RETRANSMITTED: Final = (struct.Struct("=QQ"), 200)
_UNACKED: Final = (struct.Struct("=I"), 24)
_INFO_BYTES: Final = 216
_ESTABLISHED: Final = 1
_OWN_DESCRIPTORS: Final = Path("/proc/self/fd")
_PAUSE_S: Final = 0.02
_PAUSES: Final = 50


@dataclass(frozen=True, slots=True)
class Connection:
    """An open TCP connection of this process.

    Attributes:
        local: its own end, ``host:port``.
        peer: the other end, ``host:port``.
        sent: bytes that went out, each counted once however often it was sent.
        received: bytes that came in.
        settled: whether all that was written has left and was acknowledged.
    """

    local: str
    peer: str
    sent: int
    received: int
    settled: bool


def connections() -> list[Connection]:
    """This process's established TCP connections, by port; none where the kernel does not tell."""
    if sys.platform != "linux":
        return []
    return sorted(_found(), key=lambda each: (each.local, each.peer))


async def connections_to(address: str) -> list[Connection]:
    """The connections that this process opened to ``address``, once nothing moves any more."""
    ends = _resolved(address)
    return await _settled(lambda each: each.peer in ends)


async def connections_at(address: str) -> list[Connection]:
    """The connections to ``address``, where this process listens, once nothing moves any more."""
    ends, (host, _, port) = _resolved(address), address.rpartition(":")
    # Who listens everywhere is met at any of its addresses.
    everywhere = host.strip("[]") in ("0.0.0.0", "::")  # noqa: S104 - no binding, a comparison
    return await _settled(
        lambda each: each.local.endswith(f":{port}") if everywhere else each.local in ends
    )


async def _settled(wanted: Callable[[Connection], bool]) -> list[Connection]:
    """Look until two looks in a row agree and all was acknowledged, for at most a second."""
    before: list[Connection] = []
    for _ in range(_PAUSES):
        now = list(filter(wanted, connections()))
        if now == before and all(each.settled for each in now):
            break
        before = now
        await asyncio.sleep(_PAUSE_S)
    return before


def _found() -> Iterator[Connection]:
    for entry in _OWN_DESCRIPTORS.iterdir():
        # It may be closed by now, or a socket that is not connected.
        with suppress(OSError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            # A copy, because the socket belongs to gRPC: closing ours leaves it alone.
            with socket.socket(fileno=os.dup(int(entry.name))) as own:
                found = _read(own)
            if found is not None:
                yield found


def _read(own: socket.socket) -> Connection | None:
    if own.family not in (socket.AF_INET, socket.AF_INET6) or own.type != socket.SOCK_STREAM:
        return None
    info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < _INFO_BYTES or _STATE.unpack_from(info)[0] != _ESTABLISHED:
        return None
    sent, again = _at(info, _SENT_AND_RETRANSMITTED)
    (received,), (waiting,), (unacked,) = (
        _at(info, field) for field in (_RECEIVED, _NOT_SENT, _UNACKED)
    )
    local, peer = host_port(*own.getsockname()[:2]), host_port(*own.getpeername()[:2])
    return Connection(local, peer, sent - again, received, settled=not waiting and not unacked)


def _at(info: bytes, field: tuple[struct.Struct, int]) -> tuple[int, ...]:
    form, offset = field
    return form.unpack_from(info, offset)


def _resolved(address: str) -> set[str]:
    """``address`` as the kernel writes it; a name may stand for several, or be gRPC's own."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError:  # as of ``dns:///cloud:50051``, or while nobody resolves names
        return set()
    return {host_port(str(end[0]), int(end[1])) for *_, end in found}


def host_port(host: str, port: int) -> str:
    """``host:port``, as gRPC dials it; IPv4 over an IPv6 socket is the same address."""
    number = ip_address(host.partition("%")[0])
    if isinstance(number, IPv6Address) and number.ipv4_mapped:
        number = number.ipv4_mapped
    return f"[{number}]:{port}" if number.version == 6 else f"{number}:{port}"
