"""A proxy that passes bytes through and counts them; it understands none of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

_READ = 1 << 16


@dataclass
class Counts:
    """Bytes of one connection: from who dialled (up), and back (down)."""

    up: int = 0
    down: int = 0


@dataclass
class CountingProxy:
    """Listens in front of ``target``; counts by the dialler's own address, ``host:port``."""

    target: str
    address: str = ""
    counts: dict[str, Counts] = field(default_factory=dict)
    _ends: list[asyncio.StreamWriter] = field(default_factory=list)
    _open: set["asyncio.Task[None] | None"] = field(default_factory=set)

    @classmethod
    @asynccontextmanager
    async def before(cls, target: str) -> AsyncIterator[Self]:
        """A proxy that is open as long as the context."""
        proxy = cls(target)
        server = await asyncio.start_server(proxy._connect, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        proxy.address = f"{host}:{port}"
        try:
            yield proxy
        finally:
            server.close()
            for end in proxy._ends:
                end.close()
            while proxy._open:
                await asyncio.sleep(0.001)

    async def _connect(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        self._open.add(asyncio.current_task())
        host, _, port = self.target.rpartition(":")
        far, on = await asyncio.open_connection(host, int(port))
        self._ends += [back, on]
        name, own = back.get_extra_info("peername")[:2]
        counts = self.counts[f"{name}:{own}"] = Counts()

        async def up() -> None:
            async for data in _pieces(near):
                counts.up += len(data)
                on.write(data)
                await on.drain()

        async def down() -> None:
            async for data in _pieces(far):
                back.write(data)
                counts.down += len(data)
                await back.drain()

        ways = [asyncio.create_task(way()) for way in (up, down)]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            on.close()
            back.close()
            self._open.discard(asyncio.current_task())


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while data := await reader.read(_READ):
        yield data
