"""A TCP proxy that plays a link in real time: every connection has a link of its own.

It is a process of its own, on the event loop of asyncio: uvloop rounds short sleeps to nothing.
It counts every byte, exactly as the kernel does; with the link ``none`` it only counts.
"""

import asyncio
import errno
import json
import signal
import socket
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from shared_models.contract.connections import host_port
from shared_models.contract.errors import BadSetting, PathMissing, PortTaken
from simulator.lane import Count, Lane, Way, opened
from simulator.links import BURST_BYTES, Link

_LOOK_S: Final = 2.0
_BACKLOG: Final = 1024
"""Connections that wait to be taken: a fleet of devices dials at once."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection that was made through the proxy.

    Attributes:
        peer: HOST:PORT of who made it.
        up: bytes from there to the target.
        down: and back.
    """

    peer: str
    up: Count
    down: Count


class Proxy:
    """Takes connections and carries each one over a link; see `shaping`.

    Attributes:
        address: HOST:PORT where it listens.
        connections: all so far, also those that have ended.
    """

    def __init__(self, link: Link, to: tuple[str, int], seed: int) -> None:
        self._link, self._to, self._seed = link, to, seed
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._running: set[asyncio.Task[None]] = set()
        self._lanes: set[Lane] = set()
        self._gate = opened()
        self.address = ""
        self.connections: list[Connection] = []

    @property
    def open_connections(self) -> int:
        """How many have not ended."""
        return len(self._running)

    async def listen(self, listener: socket.socket) -> asyncio.Server:
        """Take what dials ``listener``."""
        self.address = host_port(*listener.getsockname()[:2])
        return await asyncio.start_server(
            self._accept, sock=listener, limit=BURST_BYTES, backlog=_BACKLOG
        )

    def cut(self) -> None:
        """Let nothing arrive from now on, as in a tunnel: connections stay, and wait."""
        self._gate.clear()

    def mend(self) -> None:
        """Let everything arrive that waited, and what comes after it."""
        self._gate.set()

    def change(self, link: Link) -> None:
        """Play ``link`` from now on, on all connections."""
        self._link = link
        for lane in self._lanes:
            lane.change(link)

    async def hang_up(self) -> None:
        """End all connections."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def counts(self) -> dict[str, Any]:
        """Bytes of each connection and way, read from one side and accepted by the other."""
        return {
            "link": self._link.name,
            "connections": [asdict(connection) for connection in self.connections],
        }

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        # asyncio does so only where it made the listener too. Otherwise the kernel keeps the rest
        # of an answer back until its first piece is acknowledged, which takes 40 ms.
        own = writer.get_extra_info("socket")
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = len(self.connections)
        up, down = (
            Lane(
                self._link,
                way,
                self._began,
                np.random.default_rng((self._seed, number, index)),
                self._gate,
            )
            for index, way in enumerate(Way)
        )
        peer = host_port(*writer.get_extra_info("peername")[:2])
        self.connections.append(Connection(peer, up.count, down.count))
        task = asyncio.create_task(self._carry(up, down, reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _carry(
        self, up: Lane, down: Lane, reader: StreamReader, writer: StreamWriter
    ) -> None:
        """Both ways of a connection, to its end; one that breaks on a side breaks on the other."""
        writers = [writer]
        self._lanes |= {up, down}
        try:
            await self._gate.wait()
            # The kernel has accepted already; over the link that would have been a round trip.
            await asyncio.sleep(self._link.point_at(self._clock() - self._began).rtt_s)
            target_reader, target = await asyncio.open_connection(*self._to, limit=BURST_BYTES)
            writers.append(target)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(up.carry(reader, target))
                ways.create_task(down.carry(target_reader, writer))
        except* OSError:
            for each in writers:
                each.transport.abort()
        finally:
            self._lanes -= {up, down}
            for each in writers:
                each.close()


@asynccontextmanager
async def shaping(
    link: Link, to: str, listen: str = "127.0.0.1:0", seed: int = 0
) -> AsyncIterator[Proxy]:
    """A proxy to ``to`` that plays ``link``, until the context is left.

    Args:
        link: every connection gets one like it; a trace runs in the proxy's own time.
        to: HOST:PORT, dialled anew for each connection.
        listen: HOST:PORT; port 0 takes a free one.
        seed: of jitter and loss, together with a connection's number.

    Raises:
        BadSetting: an address that is none.
        PortTaken: another program listens there.
    """
    proxy = Proxy(link, _host_port("to", to), seed)
    server = await proxy.listen(_listener(listen))
    try:
        yield proxy
    finally:
        server.close()
        await proxy.hang_up()


def run_shaper(
    link: Link, to: str, listen: str, counts: Path | None, seed: int, lasts: str | None = None
) -> None:
    """Shape until SIGTERM or Ctrl-C; says ``listening on HOST:PORT`` once it does.

    Args:
        link: what is played.
        to: HOST:PORT of the target.
        listen: HOST:PORT; port 0 takes a free one.
        counts: JSON file of `Proxy.counts`, written at the end.
        seed: of jitter and loss.
        lasts: HOST:PORT; end as soon as nobody listens there any more.
    """
    if counts is not None and not counts.parent.is_dir():
        raise PathMissing(counts.parent, "folder")
    if counts is not None and counts.is_dir():
        raise BadSetting("counts", f"{counts} is a folder: name a file in it")
    other = _host_port("while", lasts) if lasts is not None else None
    proxy = asyncio.run(_shape(link, to, listen, seed, other))
    if counts is not None:
        draft = counts.with_name(f".{counts.name}.draft")
        draft.write_text(json.dumps(proxy.counts(), indent=1) + "\n")
        draft.replace(counts)


async def _shape(
    link: Link, to: str, listen: str, seed: int, lasts: tuple[str, int] | None
) -> Proxy:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with shaping(link, to, listen, seed) as proxy:
        sys.stdout.write(f"listening on {proxy.address}\n")
        sys.stdout.flush()
        if lasts is not None:
            watching = asyncio.create_task(_gone(*lasts))
            watching.add_done_callback(lambda _: stop.set())
        await stop.wait()
    return proxy


async def _gone(host: str, port: int) -> None:
    """Wait until nobody listens at an address."""
    with suppress(OSError):
        while True:
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await asyncio.sleep(_LOOK_S)


def _host_port(setting: str, address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise BadSetting(setting, f"write HOST:PORT, such as 127.0.0.1:50051, not {address!r}")
    return host.strip("[]"), int(port)


def _listener(listen: str) -> socket.socket:
    host, port = _host_port("listen", listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(listen) from error
        raise BadSetting("listen", f"{listen}: {error.strerror}") from error
