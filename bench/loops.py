"""A bare pipeline as the floor of a replay, and closed-loop clients of the cloud.

Run as a process of its own: ``python -m bench.loops floor|client ...``.
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
from grpc import aio

from protos.v1.collaboration_pb2 import Ask, Hello, Refresh
from shared_models.contract.bundle import read_bundle
from shared_models.method import Uplinks

SESSION = "/protos.v1.Collaboration/Session"
OPTIONS = [("grpc.so_reuseport", 0), ("grpc.use_local_subchannel_pool", 1)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["floor", "client"])
    parser.add_argument("--address", default="127.0.0.1:0")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--answer-bytes", type=int, default=4400)
    parser.add_argument("--largest-batch", type=int, default=64, help="asks in a floor's forward")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--asks", type=int, default=2000)
    parser.add_argument("--rank", action="store_true", help="also run the bare scorer graph")
    options = parser.parse_args()
    asyncio.run(_floor(options) if options.role == "floor" else _client(options))


async def _floor(options: argparse.Namespace) -> None:
    """Echo: each ask costs its share of a forward pass and gets as many bytes as a real answer."""
    import torch

    from cloud_server.checkpoints import load_checkpoint

    torch.set_num_threads(1)
    trained = load_checkpoint(options.model)
    length, answer = read_bundle(options.bundle).manifest.uplink.items, b"x" * options.answer_bytes
    waiting: list[asyncio.Future[None]] = []
    largest: int = options.largest_batch
    wake = asyncio.Event()

    def forward(rows: int) -> None:
        uplinks = np.ones((-(-rows // 8) * 8, length), np.int64)
        trained.method.personalize(trained.model, Uplinks(uplinks))

    async def pump() -> None:
        while True:
            await wake.wait()
            wake.clear()
            while batch := [waiting.pop() for _ in range(min(largest, len(waiting)))]:
                await asyncio.to_thread(forward, len(batch))
                for future in batch:
                    future.set_result(None)

    async def echo(asks: Any, _: Any) -> Any:
        async for _ask in asks:
            future = asyncio.get_running_loop().create_future()
            waiting.append(future)
            wake.set()
            await future
            yield answer

    server = aio.server(options=OPTIONS)
    handler = grpc.stream_stream_rpc_method_handler(echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("protos.v1.Collaboration", {"Session": handler}),)
    )
    port = server.add_insecure_port(options.address)
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await pump()


async def _client(options: argparse.Namespace) -> None:
    """Ask in a closed loop over so many streams; prints events per second as JSON."""
    bundle = read_bundle(options.bundle)
    run = _bare_scorer(bundle) if options.rank else (lambda: None)
    items = np.random.default_rng(0).integers(1, bundle.manifest.features.items + 1, 20).tolist()
    left = iter(range(options.asks))
    async with aio.insecure_channel(options.address, options=OPTIONS) as channel:
        await channel.channel_ready()
        open_session = channel.stream_stream(SESSION)
        sys.stdin.readline()

        async def device(user: int) -> None:
            call = open_session()
            hello = Ask(hello=Hello(user=user, bundle_id=bundle.id, waits=True))
            await call.write(hello.SerializeToString())
            await call.read()
            for seq in left:
                ask = Ask(seq=seq, at=1.0, refresh=Refresh(items=items, events_seen=seq))
                await call.write(ask.SerializeToString())
                await call.read()
                run()
            await call.done_writing()

        start = time.perf_counter()
        await asyncio.gather(*(device(user) for user in range(options.in_flight)))
        seconds = time.perf_counter() - start
    print(json.dumps({"asks": options.asks, "seconds": seconds}), flush=True)


def _bare_scorer(bundle: Any) -> Any:
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = session_options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        bundle.graph("scorer"), session_options, providers=["CPUExecutionProvider"]
    )
    feeds = {
        "event_ids": np.ones((1, bundle.manifest.features.window), np.int64),
        "candidate_ids": np.ones((1, 100), np.int64),
        **bundle.defaults,
    }
    return lambda: session.run(["scores"], feeds)


if __name__ == "__main__":
    main()
