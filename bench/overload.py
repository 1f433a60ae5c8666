"""Devices that may be turned away, as many asks a second as are wanted: what a cloud still does.

A device is a stream with one ask at a time. In a closed loop so many devices ask again as soon as
they are answered, which finds the capacity. In an open loop asks come as a Poisson process,
whatever becomes of them; each is put by a device that is free. Only answers within `DEADLINE_S`
of the moment that the ask was due count as good.

Run as a process of its own: ``python -m bench.overload ...``.
"""

import argparse
import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from grpc import aio

from bench.load import client_options, due_moments
from device_client.channels import OPTIONS
from protos.v1 import collaboration_pb2
from protos.v1.collaboration_pb2 import Answer, Ask, Hello, Rank, Refresh
from shared_models.contract.bundle import Bundle, read_bundle
from shared_models.contract.errors import Overloaded
from shared_models.contract.metrics import Float64Array

DEADLINE_S = 2.0
CANDIDATES = 100
"""Of an ask to rank."""
SESSION = f"/{collaboration_pb2.DESCRIPTOR.services_by_name['Collaboration'].full_name}/Session"


@dataclass(slots=True)
class Outcome:
    """What became of the asks that were due in the measured time.

    Attributes:
        due: all of them.
        good: answered in time.
        late: answered, but not in time.
        shed: turned away by the cloud.
        unsent: no device was free to ask.
    """

    due: int = 0
    good: int = 0
    late: int = 0
    shed: int = 0
    unsent: int = 0


class Device:
    """A stream to the cloud, and the one ask that it puts."""

    def __init__(self, call: Any, ask: Ask) -> None:
        self._call, self._ask = call, ask.SerializeToString()

    @classmethod
    async def open(cls, channel: aio.Channel, user: int, bundle: Bundle) -> "Device":
        """One that may be turned away, with an uplink and candidates of its own."""
        manifest, rng = bundle.manifest, np.random.default_rng(user)
        uplink = manifest.uplink.items if manifest.uplink else 0
        items = rng.integers(1, manifest.features.items + 1, uplink).tolist()
        ask = Ask(seq=1, at=1.0, refresh=Refresh(items=items, events_seen=1))
        if manifest.ranking:
            candidates = rng.integers(1, manifest.features.items + 1, CANDIDATES).tolist()
            ask = Ask(seq=1, at=1.0, rank=Rank(items=items, candidates=candidates))
        device = cls(channel.stream_stream(SESSION)(), ask)
        hello = Ask(hello=Hello(user=user, bundle_id=bundle.id, waits=False))
        await device._call.write(hello.SerializeToString())
        await device._call.read()
        return device

    async def ask(self) -> str:
        """The code of the fault; empty where there was none."""
        await self._call.write(self._ask)
        return Answer.FromString(await self._call.read()).fault.code


async def opened(channel: aio.Channel, bundle: Bundle, count: int) -> list[Device]:
    """Devices with open sessions; not all at once, or gRPC turns some of them away."""
    devices = []
    for start in range(0, count, 64):
        users = range(start, min(start + 64, count))
        devices += await asyncio.gather(*(Device.open(channel, user, bundle) for user in users))
    return devices


async def capacity(devices: list[Device], warm_up: float, seconds: float) -> float:
    """Asks answered a second when every device asks again at once."""
    count, over = 0, asyncio.Event()

    async def go_on(device: Device) -> None:
        nonlocal count
        while not over.is_set():
            fault = await device.ask()
            count += not fault

    running = [asyncio.create_task(go_on(device)) for device in devices]
    await asyncio.sleep(warm_up)
    before, start = count, time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (count - before) / (time.perf_counter() - start)
    over.set()
    await asyncio.gather(*running)
    return rate


async def offered(devices: list[Device], due: Float64Array, warm_up: float) -> Outcome:
    """What becomes of asks that are due at these moments; those of the warm-up do not count."""
    outcome, free, under_way = Outcome(), deque(devices), set[asyncio.Task[None]]()
    start = time.perf_counter()

    async def put(device: Device, at: float) -> None:
        code = await device.ask()
        free.append(device)
        if at < warm_up:
            return
        in_time = time.perf_counter() - start - at <= DEADLINE_S
        outcome.shed += code == Overloaded.code
        outcome.good += not code and in_time
        outcome.late += code != Overloaded.code and (bool(code) or not in_time)

    for at in due.tolist():
        if (pause := at - (time.perf_counter() - start)) > 0:
            await asyncio.sleep(pause)
        outcome.due += at >= warm_up
        if not free:
            outcome.unsent += at >= warm_up
            await asyncio.sleep(0)
            continue
        task = asyncio.create_task(put(free.popleft(), at))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    while under_way:
        await asyncio.wait(under_way)
    return outcome


async def client(options: argparse.Namespace) -> dict[str, float]:
    bundle = read_bundle(options.bundle)
    async with aio.insecure_channel(options.address, options=OPTIONS) as channel:
        devices = await opened(channel, bundle, options.devices)
        if not options.rate:
            return {"rate": await capacity(devices, options.warm_up, options.seconds)}
        outcome = await offered(devices, due_moments(options), options.warm_up)
    return {
        "rate": outcome.good / options.seconds,
        "due": outcome.due,
        "late": outcome.late,
        "shed": outcome.shed,
        "unsent": outcome.unsent,
    }


def main() -> None:
    print(json.dumps(asyncio.run(client(client_options(devices=128).parse_args()))))


if __name__ == "__main__":
    main()
