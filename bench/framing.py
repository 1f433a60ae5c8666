"""What gRPC adds to payload, by what happens: the source of the constants in `simulator.framing`.

``python -m bench.framing``: a client with a device's options, a server with the cloud's, and a
counting proxy between them. Prints bytes beyond payload, up and down, for each thing that happened.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from cloud_server.server import _options
from cloud_server.settings import ServeSettings
from device_client.grpc_cloud import OPTIONS
from shared_models.contract.connections import connections_to
from simulator.framing import CALL, EXCHANGE_ALONE, EXCHANGE_AMONG_OTHERS, HANG_UP, PIECE, SESSION
from tests.counting_proxy import CountingProxy

SERVICE = "protos.v1.Collaboration"
HELLO, RELEASE, CHUNK = b"h" * 74, b"r" * 75, b"c" * 65_550
WIDE = 64


class Bench:
    """One connection, read by the kernel and by the proxy after each thing that happens."""

    def __init__(self, channel: aio.Channel, proxy: CountingProxy, up: int, down: int) -> None:
        self.channel, self.proxy, self.sizes = channel, proxy, (up, down)
        self.before = (0, 0)

    async def measure(
        self, name: str, work: Awaitable[tuple[int, int]], count: int = 1, told: Any = None
    ) -> None:
        payload = await work
        (connection,) = await connections_to(self.proxy.address)
        kernel = connection.sent, connection.received
        counted = self.proxy.counts[connection.local]
        if kernel != (counted.up, counted.down):
            raise RuntimeError(f"kernel {kernel} and proxy {counted} disagree")
        beyond = [
            (now - before - own) / count
            for now, before, own in zip(kernel, self.before, payload, strict=True)
        ]
        self.before = kernel
        constant = f"   constant {told.up:g} / {told.down:g}" if told else ""
        print(f"{name:34s} {beyond[0]:8.1f} up {beyond[1]:8.1f} down{constant}")

    async def call(self, method: str, pieces: int) -> tuple[int, int]:
        request = f"{pieces:4d}".encode()
        stream = self.channel.unary_stream(f"/{SERVICE}/{method}")(request)
        size = 0
        for _ in range(max(pieces, 1)):
            size += len(await stream.read())
        stream.cancel()
        return len(request), size

    async def sessions(self, count: int, into: list[Any]) -> tuple[int, int]:
        for _ in range(count):
            into.append(self.channel.stream_stream(f"/{SERVICE}/Session")())
            await into[-1].write(HELLO)
            await into[-1].read()
        return count * len(HELLO), count * len(HELLO)

    async def exchanges(self, calls: list[Any], each: int) -> tuple[int, int]:
        up, down = self.sizes

        async def one(call: Any) -> None:
            for _ in range(each):
                await call.write(b"a" * up)
                await call.read()

        await asyncio.gather(*map(one, calls))
        return len(calls) * each * up, len(calls) * each * down


async def nothing() -> tuple[int, int]:
    return 0, 0


async def hang_up(calls: list[Any]) -> tuple[int, int]:
    for call in calls:
        call.cancel()
    return 0, 0


def _handlers(down: int) -> grpc.GenericRpcHandler:
    async def session(asks: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        async for ask in asks:
            yield HELLO if ask == HELLO else b"x" * down

    async def stream(request: bytes, _: Any) -> AsyncIterator[bytes]:
        for _piece in range(int(request)):
            yield CHUNK
        if not int(request):
            yield RELEASE
            await asyncio.sleep(3600)

    both: Callable[..., Any] = grpc.unary_stream_rpc_method_handler
    two: Callable[..., Any] = grpc.stream_stream_rpc_method_handler
    handlers = {"Session": two(session), "FetchBundle": both(stream), "WatchReleases": both(stream)}
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


async def main(up: int, down: int) -> None:
    print(f"asks of {up} B, answers of {down} B; bytes beyond payload for each one")
    server = aio.server(options=_options(ServeSettings(bundles=Path())))
    server.add_generic_rpc_handlers((_handlers(down),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with (
        CountingProxy.before(f"127.0.0.1:{port}") as proxy,
        aio.insecure_channel(proxy.address, options=OPTIONS) as channel,
    ):
        await channel.channel_ready()
        bench, calls = Bench(channel, proxy, up, down), list[Any]()
        await bench.measure("connection", nothing())
        await bench.measure("first call (releases)", bench.call("WatchReleases", 0))
        for pieces in (1, 10):
            name = f"download in {pieces} pieces"
            await bench.measure(name, bench.call("FetchBundle", pieces), told=CALL)
        await bench.measure("a piece", bench.call("FetchBundle", 100), 100, PIECE)
        await bench.measure("first session and its hello", bench.sessions(1, calls))
        rest = bench.sessions(WIDE - 1, calls)
        await bench.measure("session and its hello", rest, WIDE - 1, SESSION + EXCHANGE_ALONE)
        for _ in range(2):
            serial = bench.exchanges(calls[:1], 500)
            await bench.measure("exchange, alone", serial, 500, EXCHANGE_ALONE)
        for wide in (8, 16, 32, WIDE):
            many = bench.exchanges(calls[:wide], 40)
            name = f"exchange, {wide} under way"
            await bench.measure(name, many, 40 * wide, EXCHANGE_AMONG_OTHERS)
        await bench.measure("session hung up", hang_up(calls), WIDE, HANG_UP)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:3] or (1200, 4400))))
