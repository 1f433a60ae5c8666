"""A device process under a simulation's orders."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from grpc import aio

from device_client.agent import Agent
from device_client.settings import DeviceSettings
from protos.v1 import simulation_pb2 as plane
from protos.v1.simulation_pb2_grpc import SimulationServicer, add_SimulationServicer_to_server
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import InputError, RunFailed, UnknownName
from shared_models.contract.manifest import RefreshRule
from tests.device_client.fakes import (
    ITEMS,
    LoopbackCloud,
    build_bundle,
    expected_scores,
    head,
    serving,
)


class Script(SimulationServicer):
    """A simulation that gives its orders and keeps every report."""

    def __init__(self, *orders: plane.Order) -> None:
        self.orders, self.reports = orders, list[plane.Report]()
        self.over = asyncio.Event()

    async def Join(  # noqa: N802
        self, request_iterator: AsyncIterator[plane.Report], _context: Any
    ) -> AsyncIterator[plane.Order]:
        hearing, ended = asyncio.create_task(self._hear(request_iterator)), 0
        for order in self.orders:
            # Who is told to leave hangs up, which takes what was said last with it.
            while order.HasField("leave") and len(self.said("run_done")) < ended:
                if hearing.done():
                    break
                await asyncio.sleep(0.01)
            ended += order.HasField("end")
            yield order
        await hearing

    async def _hear(self, reports: AsyncIterator[plane.Report]) -> None:
        async for report in reports:
            self.reports.append(report)

    def said(self, kind: str) -> list[Any]:
        return [getattr(report, kind) for report in self.reports if report.HasField(kind)]


@asynccontextmanager
async def simulating(script: Script) -> AsyncIterator[str]:
    server = aio.server()
    add_SimulationServicer_to_server(script, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace=0.2)


def begin(settings: str = "", windows: dict[int, list[int]] | None = None) -> plane.Order:
    initial = [plane.InitialWindow(user=u, items=w) for u, w in (windows or {}).items()]
    return plane.Order(begin=plane.Begin(method="tiny", settings=settings, windows=initial))


def moment(
    index: int, user: int, candidates: list[int] | None = None, outcome: tuple[int, ...] = ()
) -> plane.Moment:
    data = np.array(candidates or [], "<i4").tobytes()
    return plane.Moment(index=index, user=user, at=float(index), candidates=data, outcome=outcome)


def round_of(number: int, *moments: plane.Moment) -> plane.Order:
    return plane.Order(round=plane.Round(number=number, moments=moments))


def switch_to(bundle: Bundle) -> plane.Order:
    return plane.Order(switch=plane.Switch(bundle_id=bundle.id))


END, LEAVE = plane.Order(end=plane.End()), plane.Order(leave=plane.Leave())


async def follow(
    script: Script, bundle: Bundle, settings: DeviceSettings, *releases: Bundle
) -> LoopbackCloud:
    servicer = LoopbackCloud(bundle, releases)
    async with serving(servicer) as cloud, simulating(script) as address:
        here = settings.model_copy(update={"cloud": cloud})
        async with asyncio.timeout(30):
            await Agent(here, address).follow()
    return servicer


def scores_by_moment(script: Script, sizes: dict[int, int]) -> dict[int, list[float]]:
    scores = {}
    for rankings in script.said("rankings"):
        values, start = np.frombuffer(rankings.scores, "<f4"), 0
        for index in rankings.moments:
            scores[index] = values[start : start + sizes[index]].tolist()
            start += sizes[index]
        assert start == len(values)
    return scores


async def test_a_run_is_played_from_begin_to_end(bundle: Bundle, settings: DeviceSettings) -> None:
    part = [moment(0, 1, [3, 7], (7,)), moment(1, 2, [4, 5, 6], (4,)), moment(2, 1, [9], (9,))]
    script = Script(begin(windows={1: [1, 2], 2: [5]}), round_of(1, *part), END, LEAVE)

    servicer = await follow(script, bundle, settings)

    assert script.said("joined")[0].pid == os.getpid()
    assert script.said("ready")[0].bundle_id == bundle.id
    assert script.said("ready")[0].provider == "CPUExecutionProvider"
    scores = scores_by_moment(script, {0: 2, 1: 3, 2: 1})
    np.testing.assert_allclose(scores[0], expected_scores([1, 2], [3, 7], head(0.5)), atol=1e-5)
    # The outcome of a moment is known at the user's next one, and not before.
    np.testing.assert_allclose(scores[2], expected_scores([1, 2, 7], [9], head(0.5)), atol=1e-5)
    done, account = script.said("round_done")[0], script.said("run_done")[0]
    assert done.round == 1
    refreshes = [row for row in account.traffic if row.purpose == "refresh"]
    assert {row.user: row.asks for row in refreshes} == {1: 2, 2: 1}
    assert (done.bytes_up, done.bytes_down) == servicer.sizes["refresh"]
    assert {ask.round for ask in servicer.asks} == {1}
    assert "onnxruntime" in account.modules
    assert account.resident_bytes > 10_000_000
    assert list(account.observed) == []


async def test_no_candidates_mean_the_whole_catalogue(
    bundle: Bundle, settings: DeviceSettings
) -> None:
    script = Script(begin(windows={1: [2]}), round_of(1, moment(0, 1)), END, LEAVE)

    await follow(script, bundle, settings)

    scores = scores_by_moment(script, {0: ITEMS})
    wanted = expected_scores([2], range(1, ITEMS + 1), head(0.5))
    np.testing.assert_allclose(scores[0], wanted, atol=1e-5)


async def test_mere_behaviour_is_observed_without_a_ranking_or_an_ask(
    bundle: Bundle, settings: DeviceSettings
) -> None:
    click = plane.Moment(user=1, at=0.5, outcome=[7], behaviour_only=True)
    stranger = plane.Moment(user=2, at=0.6, outcome=[8], behaviour_only=True)
    part = [click, moment(0, 1, [3, 9], (3,)), stranger]
    script = Script(begin(windows={1: [1, 2]}), round_of(1, *part), END, LEAVE)

    servicer = await follow(script, bundle, settings)

    scores = scores_by_moment(script, {0: 2})
    np.testing.assert_allclose(scores[0], expected_scores([1, 2, 7], [3, 9], head(0.5)), atol=1e-5)
    assert [ask.at for ask in servicer.asks] == [0.0]


async def test_mere_behaviour_is_uploaded(settings: DeviceSettings) -> None:
    click = plane.Moment(user=1, outcome=[7], behaviour_only=True)
    script = Script(begin(), round_of(1, click, moment(0, 1, [3], (4,))), END, LEAVE)

    servicer = await follow(script, build_bundle(uploads=True), settings)

    uploads = [ask.upload for ask in servicer.asks if ask.HasField("upload")]
    assert [list(upload.items) for upload in uploads] == [[7, 4]]


async def test_settings_of_the_run_are_obeyed(bundle: Bundle, settings: DeviceSettings) -> None:
    part = [moment(index, 1, [3], (4,)) for index in range(7)]
    rule = '{"refresh": {"rule": "every-n", "every": 3}}'
    script = Script(begin(rule, {1: [2]}), round_of(1, *part), END, LEAVE)

    servicer = await follow(script, bundle, settings)

    assert [ask.at for ask in servicer.asks] == [0.0, 3.0, 6.0]
    assert [list(r.overlay_ages) for r in script.said("rankings")] == [[0, 1, 2, 0, 1, 2, 0]]


async def test_many_rankings_leave_page_by_page(bundle: Bundle, settings: DeviceSettings) -> None:
    part = [moment(index, index % 5, [3]) for index in range(600)]
    script = Script(begin('{"refresh": {"rule": "never"}}'), round_of(1, *part), END, LEAVE)

    await follow(script, bundle, settings)

    pages = [list(page.moments) for page in script.said("rankings")]
    assert max(map(len, pages)) <= 256
    assert sorted(index for page in pages for index in page) == list(range(600))
    assert set(script.said("rankings")[0].sources) == {plane.SOURCE_DEFAULT_WEIGHTS}


async def test_events_that_wait_are_handed_over_at_the_end(settings: DeviceSettings) -> None:
    uploading = build_bundle(uploads=True)
    part = [moment(index, 1, [3], (4, 5)) for index in range(3)]
    script = Script(begin(), round_of(1, *part), END, LEAVE)

    servicer = await follow(script, uploading, settings)

    observed = script.said("run_done")[0].observed
    assert {count.user: count.count for count in observed} == {1: 6}
    uploads = [ask.upload for ask in servicer.asks if ask.HasField("upload")]
    assert [list(upload.items) for upload in uploads] == [[4, 5, 4, 5, 4, 5]]


async def test_one_process_plays_run_after_run(bundle: Bundle, settings: DeviceSettings) -> None:
    run = [begin(windows={1: [1]}), round_of(1, moment(0, 1, [3, 4], (3,))), END]
    script = Script(*run, *run, LEAVE)

    await follow(script, bundle, settings)

    first, second = script.said("rankings")
    assert first.scores == second.scores
    traffic = [
        [(row.user, row.bytes_up) for row in done.traffic if row.purpose == "refresh"]
        for done in script.said("run_done")
    ]
    assert traffic[0] == traffic[1]


async def test_a_wrong_setting_is_told_to_the_simulation(
    bundle: Bundle, settings: DeviceSettings
) -> None:
    script = Script(begin('{"in_fligt": 1}'))

    with pytest.raises(UnknownName):
        await follow(script, bundle, settings)

    failure = script.said("failure")[0]
    assert failure.code == "unknown-name"
    assert "in_flight" in failure.message


async def test_a_round_before_a_run_is_refused(bundle: Bundle, settings: DeviceSettings) -> None:
    script = Script(round_of(1, moment(0, 1, [3])))

    with pytest.raises(RunFailed, match="round was ordered before"):
        await follow(script, bundle, settings)


async def test_a_simulation_that_hangs_up_ends_the_process_with_a_word(
    bundle: Bundle, settings: DeviceSettings
) -> None:
    class Vanishing(Script):
        async def Join(  # noqa: N802
            self, _reports: AsyncIterator[plane.Report], _context: Any
        ) -> AsyncIterator[plane.Order]:
            yield begin()

    with pytest.raises(RunFailed, match="the simulation at"):
        await follow(Vanishing(), bundle, settings)


async def test_a_missing_simulation_is_named(settings: DeviceSettings) -> None:
    hurried = settings.model_copy(update={"connect_s": 0.3})

    with pytest.raises(InputError, match=r"no simulation answers at 127\.0\.0\.1:1"):
        await Agent(hurried, "127.0.0.1:1").follow()


async def test_devices_run_the_next_bundle_from_the_next_round_on(
    bundle: Bundle, settings: DeviceSettings
) -> None:
    other = build_bundle(refresh={"rule": "never"})
    rounds = [round_of(1, moment(0, 1, [3], (3,))), round_of(2, moment(0, 1, [4], (4,)))]
    script = Script(begin(windows={1: [2]}), rounds[0], switch_to(other), rounds[1], END, LEAVE)

    servicer = await follow(script, bundle, settings, other)

    assert [ready.bundle_id for ready in script.said("ready")] == [bundle.id, other.id]
    sources = [list(page.sources) for page in script.said("rankings")]
    assert sources == [[plane.SOURCE_OVERLAY], [plane.SOURCE_DEFAULT_WEIGHTS]]
    assert len(servicer.asks) == 1


async def test_a_bundle_that_does_not_work_here_is_not_taken_over(
    bundle: Bundle, settings: DeviceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    bad = build_bundle(graph=b"\x00junk" * 50)
    script = Script(
        begin(windows={1: [2]}), switch_to(bad), round_of(1, moment(0, 1, [3])), END, LEAVE
    )

    await follow(script, bundle, settings, bad)

    assert [ready.bundle_id for ready in script.said("ready")] == [bundle.id, bundle.id]
    assert list(script.said("rankings")[0].sources) == [plane.SOURCE_OVERLAY]
    assert f"bundle {bad.id[:12]} is not taken over" in caplog.text


async def test_a_bundle_that_lacks_what_the_settings_want_changes_no_device(
    settings: DeviceSettings,
) -> None:
    bundle, bare = build_bundle(controlled=True), build_bundle()
    once = settings.model_copy(update={"refresh": RefreshRule(rule="on-change", threshold=9.0)})
    after = round_of(1, moment(0, 1, [3]), moment(1, 2, [3]))
    script = Script(begin(windows={1: [2], 2: [4]}), switch_to(bare), after, END, LEAVE)

    servicer = await follow(script, bundle, once, bare)

    assert [ready.bundle_id for ready in script.said("ready")] == [bundle.id, bundle.id]
    assert "needs a controller" in script.said("ready")[1].refusal.message
    assert {ask.hello.bundle_id for ask in servicer.hellos} == {bundle.id}


async def test_a_bundle_that_is_never_announced_is_not_waited_for_for_ever(
    bundle: Bundle, settings: DeviceSettings
) -> None:
    hasty = settings.model_copy(update={"connect_s": 2.0})
    script = Script(begin(), switch_to(build_bundle(uploads=True)), END, LEAVE)

    await follow(script, bundle, hasty)

    assert [ready.bundle_id for ready in script.said("ready")] == [bundle.id, bundle.id]


async def test_a_round_ends_with_nothing_left_to_hand_over_where_that_is_wanted(
    settings: DeviceSettings,
) -> None:
    part = plane.Round(number=1, moments=[moment(0, 1, [3], (4, 5))], hand_over=True)
    script = Script(begin(), plane.Order(round=part), END, LEAVE)

    servicer = await follow(script, build_bundle(uploads=True), settings)

    assert [ask.round for ask in servicer.asks if ask.HasField("upload")] == [1]
    assert script.said("round_done")[0].bytes_up == servicer.sizes["upload"][0] + sum(
        servicer.sizes["refresh"][:1]
    )
