"""Devices over the shaping proxy: slower, cut off or nearly so, and they rank all the same."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from device_client.client import DeviceClient
from device_client.cloud import Identity
from device_client.grpc_cloud import GrpcCloud
from device_client.ledger import DeviceLedger
from device_client.scorer import Scorer
from device_client.settings import DeviceSettings
from shared_models.contract.events import Event
from shared_models.contract.ranking import Source
from shared_models.contract.uplink import Uplink
from simulator.faults import SlowLink
from simulator.links import PROFILES
from simulator.shaper import Proxy, shaping
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


Opened = Callable[..., AbstractAsyncContextManager[tuple[DeviceClient, Proxy]]]
BAD = SlowLink(kind="slow-link", kbit=256, delay_ms=500).link
HANGS_S = 20.0
"""After so long something hangs."""


@pytest.fixture
def device(settings: DeviceSettings) -> Opened:
    """A device behind a proxy, which gives an answer up after some time."""

    @asynccontextmanager
    async def opened(deadline_s: float) -> AsyncIterator[tuple[DeviceClient, Proxy]]:
        bundle = build_bundle(uploads=True)
        here = settings.model_copy(
            update={"deadline_s": deadline_s, "upload_batch": 2, "flush_s": HANGS_S}
        )
        async with (
            serving(LoopbackCloud(bundle)) as address,
            shaping(PROFILES["none"], address) as proxy,
        ):
            here = here.model_copy(update={"cloud": proxy.address})
            async with GrpcCloud(here, DeviceLedger()) as cloud, asyncio.timeout(HANGS_S):
                yield DeviceClient(1, Scorer(bundle), cloud, here, [1, 2]), proxy

    return opened


async def ranked_until(device: DeviceClient, wanted: Source) -> list[Source]:
    """Rank and take, again and again; gives with what each ranking was made."""
    sources: list[Source] = []
    while not sources or sources[-1] is not wanted:
        ranking = await device.rank([3, 7, 9])
        assert len(ranking.scores) == 3
        sources.append(ranking.source)
        await device.observe(Event(3, float(len(sources))))
    return sources


async def test_every_ranking_over_a_cut_link_is_made_with_what_is_there_and_none_hangs(
    device: Opened,
) -> None:
    async with device(deadline_s=0.2) as (phone, proxy):
        before = await ranked_until(phone, Source.OVERLAY)
        proxy.cut()

        sources = [(await phone.rank([3, 7])).source for _ in range(5)]
        await phone.observe(Event(7, 1.0))
        proxy.mend()
        after = await ranked_until(phone, Source.OVERLAY)
        await phone.flush()

    assert sources == [Source.STALE_OVERLAY] * 5
    assert set(after) <= {Source.STALE_OVERLAY, Source.OVERLAY}
    assert phone.events_handed_over == len(before) + 1 + len(after)


async def test_a_device_out_of_its_box_ranks_over_a_cut_link_with_the_bundles_own_values(
    device: Opened,
) -> None:
    async with device(deadline_s=0.2) as (phone, proxy):
        proxy.cut()

        assert (await phone.rank([3, 7])).source is Source.DEFAULT_WEIGHTS
        proxy.mend()


@pytest.mark.parametrize(("deadline_s", "wanted"), [(10.0, Source.OVERLAY), (0.1, None)])
async def test_over_256_kbit_and_500_ms_asks_end_or_are_given_up_and_every_ranking_is_made(
    device: Opened, deadline_s: float, wanted: Source | None
) -> None:
    async with device(deadline_s) as (phone, proxy):
        proxy.change(BAD)

        rankings = [await phone.rank([3, 7, 9]) for _ in range(3)]

    sources = {ranking.source for ranking in rankings}
    assert sources == {wanted or Source.DEFAULT_WEIGHTS}
