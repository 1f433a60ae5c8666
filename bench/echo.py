"""An aio echo of the service's own messages, 1 KB up and 4 KB down, and its closed-loop clients.

A client's devices share one channel, as those of a device process do; the server counts as the
cloud does, where it is given a ledger. Both run on the cloud's event loop, as the raw floor does.

Run as a process of its own: ``python -m bench.echo server|client ...``.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from bench.floor import ANSWER_BYTES, ASK_BYTES
from cloud_server.ledger import Ledger, recording
from cloud_server.loop import new_event_loop
from cloud_server.metrics import OK, Counts
from device_client.channels import OPTIONS
from protos.v1.collaboration_pb2 import Answer, Ask, Hello, Overlay
from protos.v1.tensor_pb2 import Tensor
from shared_models.contract.traffic import REFRESH

SERVICE = "bench.Echo"
Exchange = Callable[[Ask], Awaitable[Any]]
_HELLO = Hello(bundle_id="a" * (ASK_BYTES - 20))
_OVERLAY = Overlay(slots=[Tensor(data=b"x" * (ANSWER_BYTES - 20))])


def ask_of(seq: int) -> Ask:
    """An ask of about `ASK_BYTES`."""
    return Ask(seq=seq, hello=_HELLO)


def answer_to(seq: int) -> Answer:
    """An answer of about `ANSWER_BYTES`, as an overlay is."""
    return Answer(seq=seq, overlay=_OVERLAY)


async def serve(ledger: Ledger, counts: Counts | None) -> None:
    def reply(data: bytes) -> bytes:
        start = time.perf_counter()
        ask = Ask.FromString(data)
        answer = answer_to(ask.seq).SerializeToString()
        ledger.enter(1, REFRESH, ask.seq, (len(data), len(answer)), None)
        if counts is not None:
            counts.answered("refresh", OK, time.perf_counter() - start)
            counts.carried(REFRESH, len(data), len(answer))
        return answer

    async def stream(asks: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        async for ask in asks:
            yield reply(ask)

    async def unary(ask: bytes, _: Any) -> bytes:
        return reply(ask)

    # Any: the types of grpc know these handlers for servers with threads only.
    streamed: Any = grpc.stream_stream_rpc_method_handler
    called: Any = grpc.unary_unary_rpc_method_handler
    handlers = {"Stream": streamed(stream), "Unary": called(unary)}
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


async def ask_in_a_closed_loop(options: argparse.Namespace) -> float:
    """Exchanges a second, of so many devices that ask again once they are answered."""
    count, over = 0, asyncio.Event()

    async def device(exchange: Exchange) -> None:
        nonlocal count
        seq = 0
        while not over.is_set():
            seq += 1
            await exchange(ask_of(seq))
            count += 1

    async with aio.insecure_channel(options.address, options=OPTIONS) as channel:
        await channel.channel_ready()
        make = _stream if options.kind == "stream" else _unary
        devices = [asyncio.create_task(device(make(channel))) for _ in range(options.devices)]
        await asyncio.sleep(options.warm_up)
        before, start = count, time.perf_counter()
        await asyncio.sleep(options.seconds)
        rate = (count - before) / (time.perf_counter() - start)
        over.set()
        await asyncio.gather(*devices)
    return rate


def _stream(channel: aio.Channel) -> Exchange:
    call: Any = channel.stream_stream(f"/{SERVICE}/Stream")()

    async def exchange(ask: Ask) -> Answer:
        await call.write(ask.SerializeToString())
        return Answer.FromString(await call.read())

    return exchange


def _unary(channel: aio.Channel) -> Exchange:
    call: Any = channel.unary_unary(f"/{SERVICE}/Unary")

    async def exchange(ask: Ask) -> Answer:
        return Answer.FromString(await call(ask.SerializeToString()))

    return exchange


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("--ledger", type=Path, help="a server's account of exchanges, in Parquet")
    parser.add_argument("--metrics", action="store_true", help="count as a scraped cloud does")
    parser.add_argument("--address")
    parser.add_argument("--kind", choices=["stream", "unary"], default="stream")
    parser.add_argument("--devices", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--warm-up", type=float, default=0.5)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if options.role == "client":
            print(json.dumps({"rate": runner.run(ask_in_a_closed_loop(options))}))
            return
        with recording(options.ledger) as ledger:
            runner.run(serve(ledger, Counts() if options.metrics else None))


if __name__ == "__main__":
    main()
