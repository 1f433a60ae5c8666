"""Resident memory of one device process: with one virtual device, and for each further one.

    python -m bench.memory

The cloud is real; every device asks once, so that sessions and overlays are there. The slope over
100 to 1,000 devices includes each device's overlay, which is told beside it.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil

from bench.replay import _serving
from device_client.host import hosted
from device_client.ledger import DeviceLedger
from device_client.settings import DeviceSettings
from shared_models.logs.prepare import cache_root
from simulator.cache import BundleCache
from simulator.experiment import plan
from simulator.scenario import Scenario

COUNTS = (1, 100, 1000)


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(_devices(sys.argv[1]))
        return
    played = plan(Scenario(methods=("duet",)))
    cache = BundleCache(cache_root(), played.scenario.split, played.log.folder, played.log.hash)
    trained = asyncio.run(cache.trained(played.methods[0], 0, print))
    serve = ("serve", "--bundles", str(trained.bundles), "--listen", "127.0.0.1:0")
    with tempfile.TemporaryDirectory() as journal:
        place = ("--journal", f"{journal}/journal.sqlite")
        with _serving("cloud_server.cli", *serve, *place) as address:
            done = subprocess.run(
                [sys.executable, "-m", "bench.memory", address],
                check=True,
                capture_output=True,
                text=True,
            )
    sizes = {int(count): size for count, size in json.loads(done.stdout).items()}
    overlay = sum(spec.size for spec in trained.bundle.manifest.slots) * 4
    slope = (sizes[1000] - sizes[100]) / 900
    print(f"one device: {sizes[1] / 2**20:.1f} MiB (target: 115 MB)")
    print(f"each further one: {slope / 1024:.1f} KiB, of which overlay {overlay / 1024:.1f} KiB")
    print(f"without its overlay: {(slope - overlay) / 1024:.1f} KiB (target: 32 KB)")


async def _devices(address: str) -> None:
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = DeviceSettings(cloud=address, bundles=Path(folder))
        async with hosted(settings, "duet", DeviceLedger()) as (host, _):
            candidates = np.arange(1, 101)
            known = 0
            for count in COUNTS:
                for user in range(known, count):
                    await host.device(user).rank(candidates)
                known = count
                sizes[count] = psutil.Process().memory_info().rss
    print(json.dumps(sizes))


if __name__ == "__main__":
    main()
