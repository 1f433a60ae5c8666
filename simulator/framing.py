"""What gRPC and HTTP/2 add to payload, predicted from counts: bytes up (device to cloud) and down.

A message is a DATA frame, 9 B of head (RFC 9113, 4.1), round 5 B of gRPC prefix. Whoever reads one
grants room for more: WINDOW_UPDATE frames of 13 B, one for the stream and one for the connection,
which share their way, or are left out, where many messages cross at once. PING frames of 17 B,
by which gRPC probes the bandwidth, come and go with time and are part of the means below.

Measured with kernel counters and a counting proxy, which agree to the byte, between grpcio 1.85 on
both sides with the options of a device and of the cloud::

    python -m bench.framing

They do not depend on the size of messages, and do change with the version of gRPC.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Framing:
    """Bytes beyond payload in both directions."""

    up: float
    down: float

    def __add__(self, other: "Framing") -> "Framing":
        return Framing(self.up + other.up, self.down + other.down)

    def __mul__(self, count: float) -> "Framing":
        return Framing(self.up * count, self.down * count)


CONNECTION: Final = Framing(430, 190)
"""Once: preface and SETTINGS (91 / 55), the first call, and headers that later ones refer to."""
CALL: Final = Framing(95, 98)
"""A server's stream, such as a bundle's download: headers, request, trailers."""
PIECE: Final = Framing(1, 14.5)
"""A message of such a stream."""
SESSION: Final = Framing(17, 25)
"""Opening one: HEADERS both ways. Its hello is an exchange like others."""
HANG_UP: Final = Framing(13, 0.5)
"""RST_STREAM of a session that the device closes."""
EXCHANGE_ALONE: Final = Framing(40, 40)
"""An ask and its answer while nothing else moves: 14 for the message, 26 for two WINDOW_UPDATEs."""
EXCHANGE_AMONG_OTHERS: Final = Framing(35, 38)
"""The same with 8 to 64 asks under way on the connection: 28 to 38 up and 32 to 44 down were seen,
by how they meet, and because a window that runs full cuts an answer into two frames."""


@dataclass(frozen=True, slots=True)
class Crossings:
    """What happened on the connections of a device process.

    Attributes:
        connections: opened.
        calls: server's streams beside the first one.
        pieces: their messages.
        sessions: opened.
        hang_ups: sessions closed by the device.
        exchanges: asks of sessions, hellos included.
        in_flight: most asks under way at the same time.
    """

    connections: int
    calls: int
    pieces: int
    sessions: int
    hang_ups: int
    exchanges: int
    in_flight: int


def predicted(crossings: Crossings) -> Framing:
    """The framing to expect of what happened on a process's connections."""
    return (
        CONNECTION * crossings.connections
        + CALL * crossings.calls
        + PIECE * crossings.pieces
        + SESSION * crossings.sessions
        + HANG_UP * crossings.hang_ups
        + exchange(crossings.in_flight) * crossings.exchanges
    )


def exchange(in_flight: int) -> Framing:
    """An ask and its answer, where at most ``in_flight`` of them are under way."""
    return EXCHANGE_ALONE if in_flight <= 1 else EXCHANGE_AMONG_OTHERS
