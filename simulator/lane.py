"""One way of one connection over a link: bytes wait for the link, and then are on their way.

The link is a clock, not a pipe: each burst is told when it will arrive as it enters, so that
sleeping late delays single bytes and never slows the link down.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from simulator.links import BURST_BYTES, Link, Point

_STEP_S: Final = 0.005
"""Bytes are handed over in pieces of so many seconds of the link, as a link would."""
_SEGMENT: Final = 1460
_AHEAD_S: Final = 0.05
"""Seconds of bytes that may wait for the link, so that it never idles while we are late."""
_TICK_S: Final = 0.002
"""An event loop sleeps whole milliseconds, and wakes late; the last ones are awaited awake."""
_WAITING_BYTES: Final = 1 << 20
_FASTEST: Final = 10e9
"""Bit/s that a link without a rate is given room for."""


class Way(StrEnum):
    """Direction of a lane."""

    UP = "up"
    DOWN = "down"

    def rate(self, point: Point) -> float:
        """Bit/s that the link carries this way."""
        return point.up_rate if self is Way.UP else point.down_rate


@dataclass(slots=True)
class Count:
    """Bytes of one way of a connection so far.

    Attributes:
        taken: read from the sender.
        delivered: accepted by the receiver's kernel.
    """

    taken: int = 0
    delivered: int = 0

    @property
    def held(self) -> int:
        """Bytes on the way."""
        return self.taken - self.delivered


class Lane:
    """Carries bytes in order, late by what the link makes of them.

    Args:
        link: which one.
        way: of it.
        began: when the link's own time was 0, on the event loop's clock.
        rng: draws jitter and loss.
        gate: nothing arrives while it is not set; None: never shut.

    Attributes:
        count: of its bytes; outlives the lane.
    """

    def __init__(
        self,
        link: Link,
        way: Way,
        began: float,
        rng: np.random.Generator,
        gate: asyncio.Event | None = None,
    ) -> None:
        self._link, self._way, self._began, self._rng = link, way, began, rng
        self._gate = gate or opened()
        self._free_at = self._last_arrival = self._same_until = began
        self._jitter_s = 0.0
        self._pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._room = asyncio.Event()
        self._bound = _bound(link, way)
        self.count = Count()

    @property
    def bound(self) -> int:
        """Most bytes held: rate times delay, what may wait for the link, and a burst."""
        return self._bound + BURST_BYTES

    def change(self, link: Link) -> None:
        """Be like ``link`` from the next burst on."""
        self._link, self._bound = link, _bound(link, self._way)
        self._room.set()

    async def carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Carry what ``reader`` gives to ``writer``, its end included."""
        # Without a buffer of its own, what the writer took is what the kernel took.
        writer.transport.set_write_buffer_limits(high=0)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(reader))
            group.create_task(self._deliver(writer))

    async def _take(self, reader: StreamReader) -> None:
        while burst := await reader.read(BURST_BYTES):
            self.count.taken += len(burst)
            self._send(burst)
            while self.count.held >= self._bound:
                self._room.clear()
                await self._room.wait()
        self._send(b"")

    def _send(self, burst: bytes) -> None:
        """Put a burst on the link, or with no bytes the end."""
        start = max(asyncio.get_running_loop().time(), self._free_at)
        now = self._link.point_at(start - self._began)
        rate = self._way.rate(now)
        late = now.rtt_s / 2 + (self._late(start, now.rtt_s) if burst else 0.0)
        step = max(_SEGMENT, int(min(BURST_BYTES, rate * _STEP_S / 8)))
        for first in range(0, len(burst) or 1, step):
            piece = burst[first : first + step]
            start += len(piece) * 8 / rate
            # What is stalled stalls all that comes after it: order is kept.
            self._last_arrival = max(self._last_arrival, start + late)
            self._pieces.put_nowait((self._last_arrival, piece))
        self._free_at = start

    def _late(self, start: float, rtt_s: float) -> float:
        jitter, loss = self._rng.random(2)
        # Delay wanders slowly: what follows within a round trip is as late as what it follows.
        # Drawn anew for each burst, order would make every message as late as its latest piece.
        if start >= self._same_until:
            self._same_until = start + rtt_s
            self._jitter_s = float(jitter * self._link.jitter_s / 2)
        return self._jitter_s + (self._link.stall_s if loss < self._link.loss else 0.0)

    async def _deliver(self, writer: StreamWriter) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            arrival, piece = await self._pieces.get()
            if (early := arrival - clock() - _TICK_S) > 0:
                await asyncio.sleep(early)
            while clock() < arrival:
                await asyncio.sleep(0)
            await self._gate.wait()
            if not piece:
                break
            writer.write(piece)
            await writer.drain()
            self.count.delivered += len(piece)
            self._room.set()
        writer.write_eof()


def opened() -> asyncio.Event:
    """A gate that lets everything through until it is cleared."""
    gate = asyncio.Event()
    gate.set()
    return gate


def _bound(link: Link, way: Way) -> int:
    """Bytes that fill the link at its fastest and longest, and some that wait for it."""
    rate = min(_FASTEST, max(map(way.rate, link.points)))
    delay = max(each.rtt_s for each in link.points) / 2 + link.jitter_s / 2 + link.stall_s
    # An empty lane takes a byte however slow it is, or it would wait for room for ever.
    return max(1, int(rate * delay / 8 + min(_WAITING_BYTES, rate * _AHEAD_S / 8)))
