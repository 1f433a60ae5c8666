"""Raw TCP with a length prefix: what no transport over loopback can beat in Python.

Run as a process of its own: ``python -m bench.floor server|client ...``.
"""

import argparse
import asyncio
import json
import struct
import time
from collections.abc import Callable
from typing import Any

from typing_extensions import override

from cloud_server.loop import new_event_loop

ASK_BYTES, ANSWER_BYTES = 1024, 4096
_PREFIX = struct.Struct("<I")


class Frames(asyncio.Protocol):
    """Cuts what comes in into messages, and sends a reply for each.

    Args:
        reply: what goes back for a message; its prefix is added here.
        opening: what is sent first; nothing where empty.
    """

    def __init__(self, reply: Callable[[bytes], bytes], opening: bytes = b"") -> None:
        self._reply, self._opening = reply, opening
        self._rest = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        if self._opening:
            transport.write(framed(self._opening))  # type: ignore[attr-defined]

    @override
    def data_received(self, data: bytes) -> None:
        received, start = self._rest + data, 0
        while (begin := start + _PREFIX.size) <= len(received):
            end = begin + _PREFIX.unpack_from(received, start)[0]
            if end > len(received):
                break
            self._transport.write(framed(self._reply(received[begin:end])))
            start = end
        self._rest = received[start:]


def framed(message: bytes) -> bytes:
    """The message behind its length."""
    return _PREFIX.pack(len(message)) + message


async def _serve() -> None:
    answer = b"x" * ANSWER_BYTES
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Frames(lambda _: answer), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"listening on {host}:{port}", flush=True)
    await server.serve_forever()


async def _ask(options: argparse.Namespace) -> float:
    """Answers a second, of so many connections that ask again once they are answered."""
    ask, count = b"a" * ASK_BYTES, 0

    def on_answer(_: bytes) -> bytes:
        nonlocal count
        count += 1
        return ask

    host, _, port = options.address.rpartition(":")
    loop = asyncio.get_running_loop()
    for _ in range(options.devices):
        await loop.create_connection(lambda: Frames(on_answer, ask), host, int(port))
    await asyncio.sleep(options.warm_up)
    before, start = count, time.perf_counter()
    await asyncio.sleep(options.seconds)
    return (count - before) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("--address")
    parser.add_argument("--devices", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--warm-up", type=float, default=0.5)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if options.role == "server":
            runner.run(_serve())
        else:
            print(json.dumps({"rate": runner.run(_ask(options))}))


if __name__ == "__main__":
    main()
