"""Devices that ask the cloud for each ranking, and must rank in time whether it answers or not.

They are the real ones. In a closed loop each ranks again at once; in an open loop rankings fall
due as a Poisson process, whatever the cloud bears, and a device that is free does each. One is good
when all candidates are ranked within `DEADLINE_S` of being asked for; the cloud has `CLOUD_S` of
that.

Run as a process of its own: ``python -m bench.fallback ...``.
"""

import argparse
import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.load import client_options, due_moments
from device_client.client import DeviceClient
from device_client.grpc_cloud import GrpcCloud
from device_client.ledger import DeviceLedger
from device_client.scorer import Scorer
from device_client.settings import DeviceSettings
from shared_models.contract.bundle import read_bundle
from shared_models.contract.metrics import Float64Array
from shared_models.contract.ranking import Source

DEADLINE_S: Final = 0.6
CLOUD_S: Final = 0.4
CANDIDATES: Final = 100


@dataclass(slots=True)
class Outcome:
    """What became of the recommendations that were asked for in the measured time.

    Attributes:
        asked: all of them.
        good: complete, and in time.
        cloud: of the good ones, how many the cloud ranked; the device itself ranked the others.
        slowest: seconds that one of them took.
    """

    asked: int = 0
    good: int = 0
    cloud: int = 0
    slowest: float = 0.0


class Crowd:
    """Devices of users with some behaviour, and what each is to rank."""

    def __init__(
        self, bundle: Path, cloud: GrpcCloud, settings: DeviceSettings, users: int
    ) -> None:
        scorer, rng = Scorer(read_bundle(bundle)), np.random.default_rng(0)
        items = scorer.manifest.features.items
        seen = rng.integers(1, items + 1, (users, 60))
        self.slates = rng.integers(1, items + 1, (users, CANDIDATES))
        self.devices = [
            DeviceClient(user, scorer, cloud, settings, seen[user].tolist())
            for user in range(users)
        ]

    async def rank(self, user: int, outcome: Outcome | None) -> None:
        """One recommendation; counted where it is told."""
        start = time.perf_counter()
        ranking = await self.devices[user].rank(self.slates[user])
        seconds = time.perf_counter() - start
        if outcome is None:
            return
        complete = len(ranking.scores) == CANDIDATES and bool(np.isfinite(ranking.scores).all())
        good = complete and seconds <= DEADLINE_S
        outcome.asked += 1
        outcome.good += good
        outcome.cloud += good and ranking.source is Source.CLOUD
        outcome.slowest = max(outcome.slowest, seconds)


async def closed(crowd: Crowd, busy: int, warm_up: float, seconds: float) -> Outcome:
    """So many devices that rank again and again."""
    outcome, start = Outcome(), time.perf_counter()

    async def go_on(user: int) -> None:
        while (now := time.perf_counter() - start) < warm_up + seconds:
            await crowd.rank(user, outcome if now >= warm_up else None)

    await asyncio.gather(*(go_on(user) for user in range(busy)))
    return outcome


async def offered(crowd: Crowd, due: Float64Array, warm_up: float) -> Outcome:
    """What becomes of recommendations that fall due at these moments."""
    outcome, free, under_way = (
        Outcome(),
        deque(range(len(crowd.devices))),
        set[asyncio.Task[None]](),
    )
    start = time.perf_counter()

    async def put(user: int, at: float) -> None:
        await crowd.rank(user, outcome if at >= warm_up else None)
        free.append(user)

    for at in due.tolist():
        await asyncio.sleep(max(0.0, at - (time.perf_counter() - start)))
        while not free:
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(put(free.popleft(), at))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.gather(*under_way)
    return outcome


async def client(options: argparse.Namespace) -> dict[str, float]:
    users = options.devices
    settings = DeviceSettings(
        cloud=options.address, deadline_s=CLOUD_S, open_sessions=users, in_flight=1
    )
    async with GrpcCloud(settings, DeviceLedger()) as cloud:
        crowd = Crowd(options.bundle, cloud, settings, users)
        if options.rate:
            outcome = await offered(crowd, due_moments(options), options.warm_up)
        else:
            outcome = await closed(crowd, options.busy, options.warm_up, options.seconds)
    return {
        "rate": outcome.cloud / options.seconds,
        "asked": outcome.asked,
        "good": outcome.good,
        "cloud": outcome.cloud,
        "slowest": outcome.slowest,
    }


def main() -> None:
    parser = client_options(devices=256)
    parser.add_argument("--busy", type=int, default=16, help="devices in a closed loop")
    print(json.dumps(asyncio.run(client(parser.parse_args()))))


if __name__ == "__main__":
    main()
