"""A bundle's bytes, again and again: by the device's own `fetch_bundle`, and over a bare socket.

Run as a process of its own: ``python -m bench.download server|client ...``. A client tells the
bytes that cross for each second of processor time that it and the server spend on them.
"""

import argparse
import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

import psutil

from cloud_server.bundles import CHUNK_BYTES
from device_client.grpc_cloud import GrpcCloud
from device_client.ledger import DeviceLedger
from device_client.settings import DeviceSettings

Fetch = Callable[[], Awaitable[int]]
"""One download; the bytes that came."""


def serve(size: int) -> None:
    """Send ``size`` bytes for each byte that comes, in the cloud's pieces; one peer at a time."""
    data = memoryview(bytes(size))
    with socket.create_server(("127.0.0.1", 0)) as server:
        print("listening on {}:{}".format(*server.getsockname()), flush=True)
        while True:
            peer, _ = server.accept()
            with peer, suppress(ConnectionError):
                while peer.recv(1):
                    for start in range(0, size, CHUNK_BYTES):
                        peer.sendall(data[start : start + CHUNK_BYTES])


async def fetch_bare(options: argparse.Namespace) -> float:
    """By a blocking socket, into a buffer of the right size."""
    host, _, port = options.address.rpartition(":")
    with socket.create_connection((host, int(port))) as server:

        async def fetch() -> int:
            target, filled = memoryview(bytearray(options.bytes)), 0
            server.sendall(b"?")
            while filled < options.bytes:
                filled += server.recv_into(target[filled:])
            return filled

        return await bytes_per_cpu_second(fetch, options.times, psutil.Process(options.server))


async def fetch_bundles(options: argparse.Namespace) -> float:
    """By the service, as a device does."""
    async with GrpcCloud(DeviceSettings(cloud=options.address), DeviceLedger()) as cloud:

        async def fetch() -> int:
            target = bytearray()
            async with aclosing(cloud.fetch_bundle(options.bundle, 0)) as pieces:
                async for piece in pieces:
                    target += piece.data
            return len(target)

        return await bytes_per_cpu_second(fetch, options.times, psutil.Process(options.server))


async def bytes_per_cpu_second(fetch: Fetch, times: int, server: psutil.Process) -> float:
    """Of this process and ``server`` together; the first download only warms both up."""
    await fetch()
    start = time.process_time() + _spent(server)
    size = sum([await fetch() for _ in range(times)])
    return size / (time.process_time() + _spent(server) - start)


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("--address")
    parser.add_argument("--server", type=int, help="process whose time counts too")
    parser.add_argument("--bytes", type=int, help="of a download over a bare socket")
    parser.add_argument("--bundle", help="id of what the service is to send instead")
    parser.add_argument("--times", type=int, default=20)
    options = parser.parse_args()
    if options.role == "server":
        serve(options.bytes)
    rate = asyncio.run((fetch_bundles if options.bundle else fetch_bare)(options))
    print(json.dumps({"rate": rate}))


if __name__ == "__main__":
    main()
