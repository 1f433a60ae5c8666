"""A whole replay, counted by devices, by the cloud, by the kernel, and by a proxy between them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from torch import nn

from cloud_server.checkpoints import Trained
from cloud_server.server import listening
from cloud_server.settings import ServeSettings
from shared_models.contract.bundle import Bundle, BundleStore
from shared_models.logs.moments import Moments
from shared_models.method import Personalization, Uplinks
from simulator.coordinator import Coordinator
from simulator.fleet import Fleet
from simulator.replay import Account, Replay
from simulator.rounds import Rules
from simulator.stage import DEVICE
from simulator.tally import Tally
from simulator.wire import (
    CONNECTIONS,
    EQUAL,
    CloudAccount,
    connection_rows,
    read_cloud,
    reconciliation,
)
from tests.counting_proxy import CountingProxy, Counts
from tests.device_client import fakes

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]
ITEMS, WIDTH, UPLINK = 1000, 28, 600
"""Ids of two bytes: an ask has 1.2 KB; a slot of 28 x 28 half floats has 1.6 KB."""
USERS, MOMENTS = 30, 2400
HOUSEKEEPING = 100
"""Bytes of pings and window updates that gRPC may send once the kernel was asked; 43 were seen."""


class BigSlots:
    """Writes the one slot of the bundle out of the newest item."""

    name = "tiny"

    def personalize(self, model: nn.Module, uplinks: Uplinks) -> Personalization:
        heads = np.ones((len(uplinks.items_BN), WIDTH, WIDTH), np.float32)
        newest = uplinks.items_BN.max(axis=1) % 7
        return Personalization({fakes.SLOT: heads * newest[:, None, None]})


@dataclass
class Counted:
    """A replay and everybody's account of it."""

    tally: Tally
    accounts: list[Account]
    proxy: dict[str, Counts]
    cloud: CloudAccount
    in_flight: int

    @property
    def connections(self) -> pl.DataFrame:
        rows = [
            ("tiny", 0, *row) for row in connection_rows(self.accounts, self.cloud, self.in_flight)
        ]
        return pl.DataFrame(rows, schema=CONNECTIONS, orient="row")


def moments() -> Moments:
    rng = np.random.default_rng(0)
    user, sizes = rng.integers(0, USERS, MOMENTS), np.full(MOMENTS, 5)
    labels = np.tile(np.arange(5) == 2, MOMENTS)
    seq = np.array([UPLINK + int((user[:m] == user[m]).sum()) for m in range(MOMENTS)])
    candidates = rng.integers(128, ITEMS, 5 * MOMENTS)
    begins = np.zeros(MOMENTS, bool)
    return Moments(user, np.arange(MOMENTS, dtype=float), seq, sizes, candidates, labels, begins)


@asynccontextmanager
async def big_cloud(folder: Path, bundle: Bundle) -> AsyncIterator[tuple[str, Path]]:
    """A cloud in this process over one bundle; gives its address and where its ledger will be."""
    bundles, ledger = folder / "bundles", folder / "exchanges.parquet"
    store = BundleStore(bundles)
    store.add(bundle)
    (bundles / "models" / bundle.id).mkdir(parents=True)
    store.release(bundle)
    settings = ServeSettings(
        bundles=bundles, listen="127.0.0.1:0", device="cpu", ledger=ledger, replays=True
    )
    async with listening(settings) as address:
        yield address, ledger


async def counted(folder: Path, bundle: Bundle, *, processes: int, in_flight: int) -> Counted:
    rng, device = np.random.default_rng(1), f'{{"in_flight": {in_flight}}}'
    windows = {user: rng.integers(128, ITEMS, UPLINK).tolist() for user in range(USERS)}
    replay = Replay(moments(), windows, bundle, Rules(round_events=500, device=device))
    async with (
        Fleet(folder) as fleet,
        Coordinator() as coordinator,
        big_cloud(folder, bundle) as (cloud, ledger),
        CountingProxy.before(cloud) as proxy,
    ):
        places = ("--cloud", proxy.address, "--simulation", coordinator.address)
        for index in range(processes):
            own = ("--bundles", str(folder / f"device-{index}"))
            fleet.start(f"device-{index}", DEVICE, "run", *places, *own)
        links = await coordinator.gathered(processes)
        accounts = await replay.play(links)
        counts = {name: Counts(each.up, each.down) for name, each in proxy.counts.items()}
        for link in links:
            await link.leave()
    account = await asyncio.to_thread(read_cloud, ledger)
    assert account is not None
    return Counted(replay.tally, accounts, counts, account, in_flight)


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setattr(fakes, "ITEMS", ITEMS)
    monkeypatch.setattr(fakes, "WIDTH", WIDTH)
    trained = Trained(BigSlots(), nn.Identity(), log_hash="", seed=0)
    monkeypatch.setattr("cloud_server.models.load_checkpoint", lambda _: trained)
    return fakes.build_bundle(uplink={"items": UPLINK})


@pytest.mark.parametrize("in_flight", [1, 64])
async def test_payload_and_predicted_framing_are_what_the_kernel_counts_within_a_percent(
    bundle: Bundle, tmp_path: Path, in_flight: int
) -> None:
    found = await counted(tmp_path, bundle, processes=1, in_flight=in_flight)

    assert found.tally.bytes_up.min() > 1000
    assert found.tally.bytes_down.min() > 1000
    (connection,) = found.connections.iter_rows(named=True)
    for way in ("up", "down"):
        payload, kernel = connection[f"payload_{way}"], connection[f"kernel_{way}"]
        assert payload + connection[f"predicted_{way}"] == pytest.approx(kernel, rel=0.01)
        assert payload != pytest.approx(kernel, rel=0.01), "payload alone would pass"
    proxy = found.proxy[connection["local"]]
    for count, way in ((proxy.up, "up"), (proxy.down, "down")):
        assert 0 <= count - connection[f"kernel_{way}"] < HOUSEKEEPING


async def test_devices_and_cloud_count_the_same_payload_for_each_user_purpose_and_ask(
    bundle: Bundle, tmp_path: Path
) -> None:
    found = await counted(tmp_path, bundle, processes=2, in_flight=64)

    assert reconciliation(found.accounts, found.cloud) == EQUAL
    assert found.connections["payload_up"].sum() == found.cloud.exchanges["bytes_up"].sum()
    refreshes = found.cloud.exchanges.filter(purpose="refresh").sort("user", "ask")
    rankings = found.tally.frame().sort("user", "ask")
    for column in ("user", "ask", "bytes_up", "bytes_down"):
        assert refreshes[column].to_list() == rankings[column].to_list()
    assert refreshes["queue_seconds"].min() >= 0
    assert refreshes["compute_seconds"].min() > 0
    within = refreshes["queue_seconds"] + refreshes["compute_seconds"] <= rankings["cloud_seconds"]
    assert within.mean() > 0.99, "the cloud's share of an exchange lies inside it"
