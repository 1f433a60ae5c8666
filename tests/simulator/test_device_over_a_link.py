"""Devices over the shaping proxy: slower, and otherwise as without it."""

import time
from pathlib import Path

import pytest

from device_client.cloud import Identity
from device_client.grpc_cloud import GrpcCloud
from device_client.ledger import DeviceLedger
from device_client.settings import DeviceSettings
from shared_models.contract.uplink import Uplink
from simulator.links import PROFILES
from simulator.shaper import shaping
from tests.device_client.fakes import LoopbackCloud, build_bundle, serving


@pytest.fixture
def settings(tmp_path: Path) -> DeviceSettings:
    return DeviceSettings(bundles=tmp_path, deadline_s=None, connect_s=20, channel="own")


@pytest.mark.parametrize("name", PROFILES)
async def test_a_device_gets_through_over_every_link(name: str, settings: DeviceSettings) -> None:
    bundle = build_bundle()
    link = PROFILES[name]
    async with serving(LoopbackCloud(bundle)) as address, shaping(link, address) as proxy:
        here = settings.model_copy(update={"cloud": proxy.address})
        async with GrpcCloud(here, DeviceLedger()) as cloud:
            start = time.monotonic()
            overlays = [
                (await cloud.refresh(Identity(user, bundle.id), Uplink([1, 2]), 9, at=3.0))[0]
                for user in (1, 2, 1)
            ]
            seconds = time.monotonic() - start

        assert [overlay.events_seen for overlay in overlays] == [9, 9, 9]
        assert len(proxy.connections) == 2
        # Two connections and two hellos and three refreshes: at least a round trip each.
        assert seconds >= 7 * link.points[0].rtt_s
