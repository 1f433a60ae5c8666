"""The kernel's count of this process's own connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared_models.contract import connections as module
from shared_models.contract.connections import connections, connections_at, connections_to


@asynccontextmanager
async def echo() -> AsyncIterator[str]:
    """A server that answers each byte with three."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(3 * data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        yield f"{host}:{port}"


async def exchange(address: str, size: int) -> asyncio.StreamWriter:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"x" * size)
    await reader.readexactly(3 * size)
    return writer


async def gone(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    await asyncio.sleep(0.02)  # the other ends notice


async def test_both_ends_are_counted_to_the_byte_and_other_peers_are_left_out() -> None:
    async with echo() as address, echo() as elsewhere:
        own, other = await exchange(address, 100_000), await exchange(elsewhere, 5)

        (near,), (far,) = await connections_to(address), await connections_at(address)

        assert (near.sent, near.received) == (far.received, far.sent) == (100_000, 300_000)
        assert (near.local, near.peer) == (far.peer, far.local)
        await gone(own, other)


async def test_a_host_by_name_is_found_by_its_number() -> None:
    async with echo() as address:
        own = await exchange(address, 7)

        (found,) = await connections_to(address.replace("127.0.0.1", "localhost"))

        assert (found.sent, found.received) == (7, 21)
        await gone(own)


@pytest.mark.parametrize("host", ["dns:///localhost", "nobody.invalid"])
async def test_of_a_host_that_only_others_find_nothing_is_known(host: str) -> None:
    async with echo() as address:
        own = await exchange(address, 7)

        assert await connections_to(address.replace("127.0.0.1", host)) == []
        await gone(own)


async def test_who_listens_everywhere_is_met_at_any_address() -> None:
    async with echo() as address:
        own = await exchange(address, 7)

        everywhere = address.replace("127.0.0.1", "[::]")
        (found,) = await connections_at(everywhere)

        assert (found.sent, found.received) == (21, 7)
        await gone(own)


async def test_looking_keeps_no_descriptor_open_and_closes_nobodys() -> None:
    async with echo() as address:
        own = await exchange(address, 7)
        before = len(list(Path("/proc/self/fd").iterdir()))

        for _ in range(20):
            connections()

        # Others' may close meanwhile.
        assert len(list(Path("/proc/self/fd").iterdir())) <= before
        assert not own.is_closing()
        own.write(b"x")
        await own.drain()
        await gone(own)


async def test_a_connection_that_was_closed_is_not_there() -> None:
    async with echo() as address:
        own = await exchange(address, 7)
        await gone(own)

        assert await connections_to(address) == []


def test_elsewhere_than_on_linux_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "platform", "darwin")

    assert connections() == []
