"""The replay over fake device processes: same figures for any number of them, and no hangs."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from protos.v1.simulation_pb2 import Report, Round, RoundDone
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import RunFailed
from shared_models.contract.metrics import bootstrap_interval, evaluate
from shared_models.logs.moments import Moments, replay_moments
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog, taken
from shared_models.logs.worlds.trend import TrendWorld, read_trend
from simulator import coordinator as coordinator_module
from simulator.coordinator import Coordinator, DeviceLink
from simulator.releases import deliveries
from simulator.replay import Account, Release, Replay
from simulator.rounds import Orders, Rules, Share, legs, parts
from simulator.windows import initial_windows
from tests.shared_models.logs.conftest import make_shown_source
from tests.simulator.conftest import USERS, FakeDevices, make_bundle, make_moments

Crowd = Callable[..., list[FakeDevices]]
WINDOWS = {user: [user + 1, 2 * user + 1] for user in range(USERS)}
RULES = Rules(round_events=25, device='{"rule":"never"}')


@pytest.fixture
def shown_log(tmp_path: Path) -> PreparedLog:
    return prepare(make_shown_source(), "user-tail", tmp_path / "shown")


async def play(
    crowd: Crowd, moments: Moments, count: int, rules: Rules = RULES
) -> tuple[Replay, list[Account], list[FakeDevices]]:
    bundle = make_bundle()
    replay = Replay(moments, WINDOWS, bundle, rules)
    async with Coordinator() as coordinator:
        fakes = crowd(coordinator.address, count, bundle)
        accounts = await replay.play(await coordinator.gathered(count, 10))
    return replay, accounts, fakes


def ordered(moments: Moments, round_events: int) -> list[Round]:
    """What a single process is told of all rounds."""
    orders = Orders(moments, {}, {}, Rules(round_events))
    return [orders.round(part, Share(0, 1)) for part in parts(moments, round_events)]


def everything(replay: Replay) -> tuple[bytes, ...]:
    """All that a replay found, to the last bit."""
    tally = replay.tally
    found = evaluate(tally.evaluated(), USERS)
    intervals = [repr(bootstrap_interval(metric, draws=20)).encode() for metric in found.values()]
    return (tally.scores.tobytes(), tally.sources.tobytes(), tally.ages.tobytes(), *intervals)


@pytest.mark.parametrize("count", [2, 4, USERS + 2])
async def test_the_number_of_device_processes_changes_nothing_to_the_last_bit(
    crowd: Crowd, moments: Moments, count: int
) -> None:
    alone, _, _ = await play(crowd, moments, 1)

    together, _, _ = await play(crowd, moments, count)

    assert everything(together) == everything(alone)


async def test_the_size_of_a_round_changes_nothing_where_users_do_not_meet(
    crowd: Crowd, moments: Moments
) -> None:
    few, _, _ = await play(crowd, moments, 2, Rules(round_events=50))

    many, _, _ = await play(crowd, moments, 2, Rules(round_events=3))

    assert everything(many) == everything(few)


async def test_a_device_learns_what_was_taken_only_after_it_ranked(
    crowd: Crowd, moments: Moments
) -> None:
    _, _, (fake,) = await play(crowd, moments, 1)

    taken = moments.candidates[moments.labels]
    for user in range(USERS):
        assert fake.seen[user] == WINDOWS[user] + taken[moments.user == user].tolist()


async def test_every_user_lives_in_one_process_and_settings_reach_all(
    crowd: Crowd, moments: Moments
) -> None:
    _, _, fakes = await play(crowd, moments, 3)

    assert sorted(user for fake in fakes for user in fake.seen) == list(range(USERS))
    assert {fake.settings for fake in fakes} == {RULES.device}


async def test_accounts_name_each_process_and_its_provider(crowd: Crowd, moments: Moments) -> None:
    _, accounts, _ = await play(crowd, moments, 3)

    assert sorted(account.pid for account in accounts) == [0, 1, 2]
    assert {account.ready.provider for account in accounts} == {"FakeProvider"}


async def test_rounds_meet_at_a_barrier_where_the_cloud_reads_across_users(
    crowd: Crowd, moments: Moments
) -> None:
    bundle = make_bundle(cross_user=True)
    replay = Replay(moments, WINDOWS, bundle, RULES)
    seen: list[int] = []

    async with Coordinator() as coordinator:
        crowd(coordinator.address, 3, bundle, on_round=lambda _, number: seen.append(number))
        await replay.play(await coordinator.gathered(3, 10))

    assert len(seen) == 3 * len(parts(moments, RULES.round_events))
    assert seen == sorted(seen), "a process began a round before another ended the one before it"


def test_a_whole_catalogue_is_not_sent() -> None:
    moments, rules = make_moments(20), Rules(whole_catalogue=True)

    order = Orders(moments, WINDOWS, {}, rules).round(legs(moments, rules)[0][0], Share(0, 1))

    assert {moment.candidates for moment in order.moments} == {b""}
    assert [len(moment.outcome) for moment in order.moments] == [1] * 20


async def test_mere_behaviour_is_observed_in_its_place_and_not_ranked(
    crowd: Crowd, shown_log: PreparedLog
) -> None:
    moments = replay_moments(shown_log)
    replay = Replay(moments, initial_windows(shown_log, moments, 1000), make_bundle(), RULES)

    async with Coordinator() as coordinator:
        fakes = crowd(coordinator.address, 2, make_bundle())
        await replay.play(await coordinator.gathered(2, 10))

    lives = taken(shown_log.events).filter(pl.col("at") <= moments.at[-1])
    expected = dict(lives.group_by("user").agg("item").iter_rows())
    assert {user: items for fake in fakes for user, items in fake.seen.items()} == expected
    assert len(replay.tally.frame()) == len(moments)


def test_what_users_take_by_themselves_belongs_to_the_round_before(shown_log: PreparedLog) -> None:
    moments = replay_moments(shown_log)

    rounds = ordered(moments, 4)

    first, second, *_ = moments.at[::4]
    clicks, shown = (
        [[m.at for m in r.moments if m.behaviour_only is mere] for r in rounds]
        for mere in (True, False)
    )
    assert [r.number for r in rounds] == [1, 2, 3, 4, 5]
    assert shown == [[], *moments.at.reshape(-1, 4).tolist()]
    assert clicks[0] == [at for at in moments.clicks.at if at < first]
    assert clicks[1] == [at for at in moments.clicks.at if first < at < second]
    assert sum(map(len, clicks)) == len(moments.clicks)


def test_moments_and_clicks_of_a_round_are_in_order_of_time(shown_log: PreparedLog) -> None:
    times = [[m.at for m in r.moments] for r in ordered(replay_moments(shown_log), 9)]

    assert [sorted(each) for each in times] == times


def test_a_trend_s_clicks_are_a_round_older_than_the_requests_that_they_explain(
    tmp_path: Path,
) -> None:
    world = TrendWorld(communities=3, neighbours=2, steps=2, periods=20)
    moments = replay_moments(prepare(read_trend(world), "global-time", tmp_path / "log"))
    asked = world.communities * world.steps

    rounds = [order.moments for order in ordered(moments, asked)]

    # Four periods are replayed; what is clicked in one comes before its requests, a round earlier.
    clicked, shown = world.users * (1 + world.clicks), asked
    kinds = [[moment.behaviour_only for moment in each] for each in rounds]
    assert kinds == [
        [True] * clicked,
        *[[False] * shown + [True] * clicked] * 3,
        [False] * shown,
    ]


async def test_a_process_that_dies_ends_the_run_at_once(crowd: Crowd, moments: Moments) -> None:
    bundle = make_bundle()
    replay = Replay(moments, WINDOWS, bundle, RULES)

    async with Coordinator() as coordinator:
        crowd(coordinator.address, 3, bundle, dies_in_round=2)
        links = await coordinator.gathered(3, 10)
        async with asyncio.timeout(10):
            with pytest.raises(RunFailed, match="device process 2 went away"):
                await replay.play(links)

    assert replay.tally.ranked.any(), "what was measured until then is kept"
    assert not replay.tally.ranked.all()


async def test_missing_processes_are_told_after_the_timeout(crowd: Crowd) -> None:
    async with Coordinator() as coordinator:
        crowd(coordinator.address, 1, make_bundle())
        await until(lambda: coordinator.joined == 1)

        with pytest.raises(RunFailed, match=r"1 of 2 device processes"):
            await coordinator.gathered(2, 0.5)


async def came_and_went(coordinator: Coordinator) -> None:
    """A device process has joined, and is no longer there."""
    fake = asyncio.create_task(FakeDevices(99, make_bundle().id).run(coordinator.address, nothing))
    await until(lambda: coordinator.joined == 1)
    fake.cancel()
    await until(lambda: coordinator.joined == 0)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


def nothing(_: FakeDevices, __: int) -> None: ...


async def test_a_process_that_came_and_went_before_the_run_is_not_counted(
    crowd: Crowd, moments: Moments
) -> None:
    replay = Replay(moments, WINDOWS, make_bundle(), RULES)

    async with Coordinator() as coordinator:
        await came_and_went(coordinator)
        crowd(coordinator.address, 2, make_bundle())
        links = await coordinator.gathered(2, 10)
        await replay.play(links)

    assert [link.pid for link in links] == [0, 1]
    assert replay.tally.ranked.all()


async def test_processes_that_leave_while_others_are_waited_for_are_not_counted(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator_module, "_NO_MORE_S", 0.5)

    async with Coordinator() as coordinator:
        await came_and_went(coordinator)
        waiting = asyncio.create_task(coordinator.assembled(None))
        await came_and_went(coordinator)
        await asyncio.sleep(0.6)
        crowd(coordinator.address, 1, make_bundle())

        assert [link.pid for link in await waiting] == [0]


async def test_a_process_that_runs_another_bundle_is_refused(
    crowd: Crowd, moments: Moments
) -> None:
    replay = Replay(moments, WINDOWS, make_bundle(cross_user=True), RULES)

    async with Coordinator() as coordinator:
        crowd(coordinator.address, 1, make_bundle())
        links = await coordinator.gathered(1, 10)
        with pytest.raises(RunFailed, match="runs bundle"):
            await replay.play(links)


def test_rounds_cover_the_log_in_order() -> None:
    cut = parts(make_moments(10), 4)

    assert [(part.number, part.start, part.stop) for part in cut] == [
        (1, 0, 4),
        (2, 4, 8),
        (3, 8, 10),
    ]


RETRAINED = Rules(round_events=25, retrain=2)


async def play_on(crowd: Crowd, moments: Moments, count: int, **of_fakes: bool) -> Any:
    """Play with another bundle after every second round; what fakes say, and in which order."""
    replay, order = Replay(moments, WINDOWS, make_bundle(), RETRAINED), list[str]()

    async def retrain() -> Bundle:
        order.append("retrained")
        return make_bundle(release=len(replay.releases))

    async with Coordinator() as coordinator:
        fakes = crowd(
            coordinator.address, count, make_bundle(), on_round=lambda _, n: order.append(str(n))
        )
        for fake in fakes:
            fake.is_stubborn = of_fakes.get("stubborn", False)
        await replay.play(await coordinator.gathered(count, 10), retrain)
    return replay, fakes, order


async def test_devices_switch_between_rounds_once_all_of_them_have_ended_theirs(
    crowd: Crowd, moments: Moments
) -> None:
    replay, fakes, order = await play_on(crowd, moments, 3)

    bundles = [make_bundle(release=number).id for number in range(3)]
    assert [release.bundle.id for release in replay.releases] == bundles
    assert [release.first for release in replay.releases] == [0, 50, 100]
    assert [fake.switches for fake in fakes] == [bundles[1:]] * 3
    spans = ",".join(order).split("retrained")
    assert [set(span.strip(",").split(",")) for span in spans] == [{"1", "2"}, {"3", "4"}, {"5"}]


async def test_what_waits_is_handed_over_before_the_cloud_trains_on_it(
    crowd: Crowd, moments: Moments
) -> None:
    _, fakes, _ = await play_on(crowd, moments, 2)

    assert [fake.handed_over for fake in fakes] == [[2, 4, 5]] * 2


async def test_payload_is_known_where_a_round_ended(crowd: Crowd, moments: Moments) -> None:
    replay, _, _ = await play_on(crowd, moments, 2)

    # A fake tells the number of the round for bytes up.
    known = {stop: replay.payload(stop) for stop in (0, 25, 30, 100, len(moments))}
    assert known == {0: (0, 0), 25: (2, 0), 30: None, 100: (8, 0), 120: (10, 0)}


async def test_payload_never_falls_though_a_killed_process_is_followed_by_one_that_counts_anew(
    moments: Moments,
) -> None:
    replay, link = Replay(moments, WINDOWS, make_bundle(), RETRAINED), DeviceLink(pid=1)
    replay._processes = 1

    for part, pid, told in zip(replay.rounds, (1, 1, 2), (100, 250, 40), strict=False):
        link.pid = pid
        link._reports.put_nowait(Report(round_done=RoundDone(round=part.number, bytes_up=told)))
        await replay._hear(link, Share(0, 1), part)

    assert [replay.payload(stop) for stop in (25, 50, 75)] == [(100, 0), (250, 0), (290, 0)]
    assert replay.traffic == (290, 0)


async def test_a_process_that_keeps_its_bundle_ends_the_run(crowd: Crowd, moments: Moments) -> None:
    with pytest.raises(RunFailed, match=r"did not take over bundle .*: its log says why"):
        await play_on(crowd, moments, 2, stubborn=True)


def test_spans_of_a_replay_say_which_bundle_ran_and_what_it_cost(moments: Moments) -> None:
    replay = Replay(moments, WINDOWS, make_bundle(), RETRAINED)
    replay.releases.append(Release(make_bundle(release=1), 50))

    found = deliveries(replay, [(0, 50), (50, 100), (100, 120)])

    assert [cost.release for cost in found] == [0, 1, 1]
    assert [cost.bundle_bytes > 0 for cost in found] == [True, True, False]
    assert [cost.payload for cost in found] == [None] * 3
