"""Hosts 1, 100 and 1,000 devices in this process and prints its resident bytes after each.

Run by `bench.memory`; imports what a device imports, and nothing else.
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from device_client.host import hosted
from device_client.ledger import DeviceLedger
from device_client.settings import DeviceSettings

COUNTS = (1, 100, 1000)


async def main(address: str) -> None:
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = DeviceSettings(cloud=address, bundles=Path(folder))
        async with hosted(settings, "duet", DeviceLedger()) as (host, _):
            known = 0
            for count in COUNTS:
                for user in range(known, count):
                    await host.device(user).rank(np.arange(1, 101))
                known = count
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                sizes[count] = pages * os.sysconf("SC_PAGE_SIZE")
    print(json.dumps(sizes))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
