"""How long devices are without their cloud when it is killed: a hundred, on a connection each."""

import asyncio
import shutil
import time
from pathlib import Path

from bench.stock import quickly_trained
from device_client.backoff import delays
from device_client.cloud import Identity
from device_client.grpc_cloud import GrpcCloud
from device_client.ledger import DeviceLedger
from device_client.settings import DeviceSettings
from shared_models.contract.errors import CloudUnavailable
from shared_models.contract.uplink import Uplink
from simulator.fleet import Fleet
from simulator.keeper import CloudKeeper
from simulator.sites import CLOUD

DEVICES, KILLS = 100, 5


def devices_back(folder: Path, seed: int) -> list[float]:
    """Seconds from each kill until each device has had an answer from the next cloud."""
    trained = quickly_trained("duet")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return asyncio.run(_measured(folder, trained.bundles, trained.bundle.id, seed))


async def _measured(folder: Path, bundles: Path, bundle_id: str, seed: int) -> list[float]:
    journal = ("--journal", str(folder / "journal.sqlite"))
    command = (CLOUD, "serve", "--bundles", str(bundles), "--listen", "127.0.0.1:0", *journal)
    async with Fleet(folder) as fleet:
        keeper = CloudKeeper(fleet, "cloud", command)
        address = await keeper.start()
        settings = DeviceSettings(cloud=address, channel="own", in_flight=DEVICES)
        waited: list[float] = []
        async with GrpcCloud(settings, DeviceLedger()) as cloud:
            devices = [Identity(user, bundle_id) for user in range(DEVICES)]
            await asyncio.gather(*(_answered(cloud, who, seed) for who in devices))
            for number in range(KILLS):
                died = time.monotonic()
                async with asyncio.TaskGroup() as group:
                    group.create_task(keeper.kill())
                    await asyncio.sleep(0)
                    tasks = [
                        group.create_task(_answered(cloud, who, seed + number)) for who in devices
                    ]
                waited += [task.result() - died for task in tasks]
        await keeper.stop()
    return waited


async def _answered(cloud: GrpcCloud, who: Identity, seed: int) -> float:
    """When ``who`` has had slot values, asking again and again as a device does."""
    waits = delays(seed * DEVICES + who.user)
    while True:
        try:
            await cloud.refresh(who, Uplink([1, 2, 3]), 3, 0.0)
        except CloudUnavailable:
            await asyncio.sleep(next(waits))
        else:
            return time.monotonic()
