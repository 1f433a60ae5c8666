"""What a simulator shows to Prometheus, against a replay over fake device processes."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from shared_models.logs.moments import Moments
from simulator.coordinator import Coordinator
from simulator.metrics import ReplayMetrics, RunCounts
from simulator.replay import Replay
from simulator.rounds import Rules, Share
from simulator.tally import Tally
from tests.simulator.conftest import MOMENTS, USERS, FakeDevices, make_bundle, make_rankings

RUN = {"entry": "fake", "seed": "3"}
ROUNDS = 5
Crowd = Callable[..., list[FakeDevices]]


@pytest.fixture
def metrics() -> ReplayMetrics:
    return ReplayMetrics()


@pytest.fixture
def registry(metrics: ReplayMetrics) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(metrics)
    return registry


def begin(metrics: ReplayMetrics) -> RunCounts:
    return metrics.begin("fake", 3, make_bundle().id, MOMENTS)


@pytest.mark.parametrize("devices", [1, 2])
async def test_a_replay_is_counted_whole_whatever_the_number_of_processes(
    metrics: ReplayMetrics,
    registry: CollectorRegistry,
    crowd: Crowd,
    moments: Moments,
    devices: int,
) -> None:
    counts, bundle = begin(metrics), make_bundle()
    replay = Replay(
        moments,
        {user: [user + 1] for user in range(USERS)},
        bundle,
        Rules(round_events=MOMENTS // ROUNDS),
        lambda tally, about, _: counts.ranked(tally, about),
    )
    replay.on_round = counts.round_done
    async with Coordinator() as coordinator:
        metrics.joined = lambda: coordinator.joined
        crowd(coordinator.address, devices, bundle)
        links = await coordinator.gathered(devices, 10)
        joined = registry.get_sample_value("concerto_replay_devices")
        await replay.play(links)
        for link in links:
            await link.leave()
        while coordinator.joined:
            await asyncio.sleep(0.01)

    how = {**RUN, "source": "overlay", "decision": "refresh"}
    name = "concerto_replay_recommendation"
    get = registry.get_sample_value
    assert (joined, get("concerto_replay_devices")) == (devices, 0)
    assert get("concerto_replay_rounds_total", RUN) == ROUNDS
    assert get("concerto_replay_moments_planned", RUN) == MOMENTS
    assert get(f"{name}s_total", how) == MOMENTS
    assert get(f"{name}_seconds_count", RUN) == MOMENTS
    assert get(f"{name}_seconds_sum", RUN) == pytest.approx(0.002 * MOMENTS)
    assert get(f"{name}_seconds_bucket", {**RUN, "le": "0.001"}) == 0
    assert get(f"{name}_seconds_bucket", {**RUN, "le": "0.0025"}) == MOMENTS
    bytes_ = {**RUN, "purpose": "refresh", "direction": "up"}
    # What a process tells is what it spent since the run began: the last word counts.
    assert get("concerto_replay_payload_bytes_total", bytes_) == ROUNDS * devices


def test_a_round_is_over_when_every_process_has_ended_it(
    metrics: ReplayMetrics, registry: CollectorRegistry
) -> None:
    counts = begin(metrics)
    seen = []

    for index, done in [(0, 1), (0, 2), (1, 1), (1, 2)]:
        counts.round_done(Share(index, 2), 7, FakeDevices(7, "")._round_done(done))
        seen.append(registry.get_sample_value("concerto_replay_rounds_total", RUN))

    assert seen == [0, 0, 1, 2]


def test_what_a_killed_process_spent_stays_counted(
    metrics: ReplayMetrics, registry: CollectorRegistry
) -> None:
    counts, process = begin(metrics), FakeDevices(7, "")
    sent = {**RUN, "purpose": "refresh", "direction": "up"}
    seen = []

    for pid, done in [(7, 1), (7, 2), (8, 1)]:
        counts.round_done(Share(0, 1), pid, process._round_done(done))
        seen.append(registry.get_sample_value("concerto_replay_payload_bytes_total", sent))

    assert seen == [1, 2, 3]


def test_the_newest_run_is_the_one_that_plays(
    metrics: ReplayMetrics, registry: CollectorRegistry
) -> None:
    begin(metrics)
    metrics.begin("other", 0, make_bundle().id, 7)

    run = {"bundle_id": make_bundle().id}
    get = registry.get_sample_value
    assert get("concerto_replay_info", {**RUN, **run}) == 0
    assert get("concerto_replay_info", {"entry": "other", "seed": "0", **run}) == 1


def test_every_source_and_decision_has_a_name(moments: Moments) -> None:
    counts, tally = begin(ReplayMetrics()), Tally(moments)

    for number, source in enumerate(range(1, 8)):
        size = int(moments.sizes[number])
        report = make_rankings([number], np.zeros(size), source=source)
        counts.ranked(tally, tally.enter(0, report))

    assert counts.recommendations.total() == 7
    assert len({source for source, _ in counts.recommendations}) == 7
