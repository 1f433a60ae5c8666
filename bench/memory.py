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

from bench.processes import serving
from shared_models.logs.prepare import cache_root
from simulator.cache import BundleCache
from simulator.experiment import plan
from simulator.scenario import Scenario


def main() -> None:
    played = plan(Scenario(methods=("duet",)))
    cache = BundleCache(cache_root(), played.scenario.split, played.log.folder, played.log.hash)
    trained = asyncio.run(cache.trained(played.plays[0].resolved, 0, print))
    serve = ("serve", "--bundles", str(trained.bundles), "--listen", "127.0.0.1:0")
    with tempfile.TemporaryDirectory() as journal:
        place = ("--journal", f"{journal}/journal.sqlite")
        with serving("cloud_server.cli", *serve, *place) as cloud:
            done = subprocess.run(
                [sys.executable, "-m", "bench.one_process", cloud.address],
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


if __name__ == "__main__":
    main()
