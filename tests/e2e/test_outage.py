"""A cloud that is killed in the middle of a replay, and comes back."""

import asyncio
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from simulator.cache import CLOUD
from simulator.coordinator import Coordinator
from simulator.experiment import plan
from simulator.fleet import Fleet, Process
from simulator.replay import Account, Replay
from simulator.scenario import Scenario
from simulator.stage import DEVICE
from simulator.tally import Tally
from simulator.windows import initial_windows

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]
UPLOADING = Scenario(
    methods=("duet",),
    log="synthetic",
    train={"epochs": 1},
    settings={"duet": {"uploads": True}},
    device={"upload_batch": 4},
    replay={"round_events": 500},
)


async def serve(fleet: Fleet, bundles: Path, journal: Path, address: str) -> tuple[Process, str]:
    places = ("--bundles", str(bundles), "--listen", address, "--journal", str(journal))
    places += ("--set", "replays=true")
    cloud = fleet.start(f"cloud-{len(list(journal.parent.glob('*.log')))}", CLOUD, "serve", *places)
    return cloud, await fleet.line(cloud, "listening on ", 60)


async def replay_with_outage(folder: Path) -> tuple[Tally, list[Account], Path]:
    """Play; kill the cloud after a fifth of it; start it again once devices did without."""
    played = plan(UPLOADING)
    (play,) = played.plays
    trained = await played.cache.trained(play.resolved, 0, lambda _: None)
    length = play.device.memory(trained.bundle.manifest)
    windows = initial_windows(played.log, played.moments, length)
    journal = folder / "journal.sqlite"
    replay = Replay(played.moments, windows, trained.bundle, play.rules, lambda *_: None)
    async with Fleet(folder) as clouds, Fleet(folder) as devices, Coordinator() as coordinator:
        cloud, address = await serve(clouds, trained.bundles, journal, "127.0.0.1:0")
        places = ("--cloud", address, "--simulation", coordinator.address)
        for number in range(2):
            own = ("--bundles", str(folder / f"device-{number}"))
            devices.start(f"device-{number}", DEVICE, "run", *places, *own)
        links = await coordinator.gathered(2)
        playing = asyncio.create_task(replay.play(links))
        while replay.tally.ranked.mean() < 0.2:
            await asyncio.sleep(0.01)
        cloud.popen.kill()
        cloud.popen.wait()
        while not replay.tally.source_counts()["stale-overlay"]:
            await asyncio.sleep(0.01)
        await serve(clouds, trained.bundles, journal, address)
        accounts = await playing
        for link in links:
            await link.leave()
    return replay.tally, accounts, journal


async def test_a_replay_survives_the_death_of_its_cloud_and_no_event_is_lost_or_doubled(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCERTO_CACHE", str(cache))

    tally, accounts, journal = await replay_with_outage(tmp_path)

    assert tally.ranked.all()
    assert np.isfinite(tally.scores).all()
    sources = tally.source_counts()
    assert sources["overlay"] > 0
    assert sources["stale-overlay"] > 0
    sent = {entry.user: entry.count for account in accounts for entry in account.done.observed}
    with sqlite3.connect(journal) as database:
        rows = database.execute(
            "SELECT user, COUNT(*), MIN(sequence), MAX(sequence) FROM events GROUP BY user"
        )
        stored = {user: (count, first, last) for user, count, first, last in rows}
    assert stored == {user: (count, 0, count - 1) for user, count in sent.items()}
    assert sum(sent.values()) == len(tally.sources)
