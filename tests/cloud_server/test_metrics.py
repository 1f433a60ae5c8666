"""What a cloud shows to Prometheus, after a conversation whose every part is known."""

import asyncio
import logging
import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloud_server.batcher import Batcher
from cloud_server.server import listening
from cloud_server.settings import ServeSettings
from protos.v1.collaboration_pb2 import (
    BundleRequest,
    Contribute,
    GroupRequest,
    Rank,
    Refresh,
    ReleasesRequest,
    Upload,
)
from shared_models.contract.bundle import Bundle, BundleStore
from shared_models.contract.errors import CloudUnavailable, PortTaken
from tests.cloud_server.conftest import Cloud, OpenCloud, TinyMethod, make_bundle

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
Scrape = Callable[[], "asyncio.Future[Samples]"]


def read(url: str) -> Samples:
    text = urllib.request.urlopen(url).read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


@pytest.fixture
def scrape(caplog: pytest.LogCaptureFixture) -> Callable[[], Samples]:
    """Reads the endpoint of the cloud that was opened last, as its log names it."""
    caplog.set_level(logging.INFO)

    def now() -> Samples:
        noted = [r for r in caplog.records if r.getMessage() == "metrics are shown"]
        return read(noted[-1].about["url"])

    return now


async def test_asks_are_counted_by_kind_and_status_with_their_times_and_bytes(
    open_cloud: OpenCloud, bundle: Bundle, scrape: Callable[[], Samples]
) -> None:
    async with open_cloud(metrics="0", largest_list=100) as cloud:
        device = cloud.device()
        early = await device.ask(refresh=Refresh(items=[1]))
        await device.hello(bundle)
        answers = [await device.ask(refresh=Refresh(items=[item])) for item in (1, 2, 3)]
        await device.ask(refresh=Refresh(items=range(101)))
        await device.ask(rank=Rank(items=[1], candidates=[2, 3]))
        await device.ask(upload=Upload(items=[4, 5], times=[1.0, 2.0]))
        await device.ask(upload=Upload(items=[4, 5], times=[1.0, 2.0]))
        await device.ask(group=GroupRequest(number=1))
        await device.ask(contribute=Contribute())
        await device.ask()
        samples = scrape()

    def asked(kind: str, status: str) -> float:
        return value(samples, "concerto_asks_total", kind=kind, status=status)

    assert asked("hello", "ok") == 1
    assert (asked("refresh", "ok"), asked("refresh", "bad-ask")) == (3, 2)
    assert (asked("rank", "ok"), asked("upload", "ok"), asked("group", "bad-ask")) == (1, 2, 1)
    assert (asked("contribute", "bad-ask"), asked("none", "bad-ask")) == (1, 1)
    assert value(samples, "concerto_ask_seconds_count", kind="refresh") == 5
    assert value(samples, "concerto_ask_seconds_bucket", kind="refresh", le="+Inf") == 5
    assert value(samples, "concerto_ask_seconds_sum", kind="refresh") > 0
    assert value(samples, "concerto_journal_events_total") == 2, "the second was a repetition"
    down = value(samples, "concerto_payload_bytes_total", purpose="refresh", direction="down")
    assert down > sum(answer.ByteSize() for answer in [early, *answers])
    assert value(samples, "concerto_payload_bytes_total", purpose="rank", direction="up") > 5
    assert value(samples, "concerto_payload_bytes_total", purpose="control", direction="up") > 64


async def test_batches_are_counted_by_size_and_what_waits_is_the_queues_depth(
    open_cloud: OpenCloud, bundle: Bundle, method: TinyMethod, scrape: Callable[[], Samples]
) -> None:
    async with open_cloud(metrics="0") as cloud:
        devices = [cloud.device() for _ in range(4)]
        for user, device in enumerate(devices):
            await device.hello(bundle, user=user, waits=True)
        method.gate.clear()
        first = asyncio.create_task(devices[0].ask(refresh=Refresh(items=[1])))
        while not method.asked:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(each.ask(refresh=Refresh(items=[1]))) for each in devices[1:]]
        while value(waiting := scrape(), "concerto_queue_depth", queue="personalize") < 3:
            await asyncio.sleep(0.01)
        method.gate.set()
        await asyncio.gather(first, *others)
        done = scrape()

    assert value(waiting, "concerto_queue_depth", queue="personalize") == 3
    assert value(done, "concerto_queue_depth", queue="personalize") == 0
    assert value(done, "concerto_batch_size_bucket", queue="personalize", le="1.0") == 1
    assert value(done, "concerto_batch_size_bucket", queue="personalize", le="2.0") == 1
    assert value(done, "concerto_batch_size_bucket", queue="personalize", le="4.0") == 2
    assert value(done, "concerto_batch_size_sum", queue="personalize") == 4
    assert value(done, "concerto_batch_size_count", queue="journal") >= 1


async def test_sessions_are_counted_while_they_are_open(
    open_cloud: OpenCloud, bundle: Bundle, scrape: Callable[[], Samples]
) -> None:
    async with open_cloud(metrics="0") as cloud:
        devices = [cloud.device() for _ in range(3)]
        for user, device in enumerate(devices):
            await device.hello(bundle, user=user)
        three = value(scrape(), "concerto_sessions")
        await devices[0].leave()
        devices[1]._call.cancel()
        while value(scrape(), "concerto_sessions") > 1:
            await asyncio.sleep(0.01)

    assert three == 3


async def test_what_is_released_and_fetched_is_shown(
    open_cloud: OpenCloud, root: object, bundle: Bundle, scrape: Callable[[], Samples]
) -> None:
    newer = make_bundle(config={"release": 2})

    async with open_cloud(metrics="0", release_poll_s=0.01) as cloud:
        before = scrape()
        watching = cloud.stub.WatchReleases(ReleasesRequest())
        await watching.read()
        fetched = [chunk async for chunk in cloud.stub.FetchBundle(BundleRequest(id=bundle.id))]
        store = BundleStore(root)
        store.add(newer)
        store.release(newer)
        announced = await watching.read()
        after = scrape()
        watching.cancel()

    assert value(before, "concerto_bundle_info", method="tiny", bundle_id=bundle.id) == 1
    assert announced.bundle_id == newer.id
    assert value(after, "concerto_bundle_info", method="tiny", bundle_id=newer.id) == 1
    assert len([name for name, _ in after if name == "concerto_bundle_info"]) == 1
    down = value(after, "concerto_payload_bytes_total", purpose="bundle", direction="down")
    assert down >= sum(chunk.ByteSize() for chunk in fetched)


async def test_contributions_are_shown_by_outcome_from_zero_on(
    open_cloud: OpenCloud, bundle: Bundle, scrape: Callable[[], Samples]
) -> None:
    async with open_cloud(metrics="0"):
        samples = scrape()

    assert value(samples, "concerto_contributions_total", outcome="fresh") == 0
    assert value(samples, "concerto_group_versions_total") == 0


async def test_without_the_setting_nothing_is_shown(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    assert "metrics" not in caplog.text


async def test_a_taken_port_is_told_before_anything_is_loaded(
    open_cloud: OpenCloud, bundle: Bundle, root: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_cloud(metrics="0"):
        (noted,) = [r for r in caplog.records if r.getMessage() == "metrics are shown"]
        taken = noted.about["url"].removeprefix("http://").removesuffix("/metrics")
        settings = ServeSettings(bundles=root, listen="127.0.0.1:0", metrics=taken)

        with pytest.raises(PortTaken, match=taken):
            async with listening(settings):
                pass


def test_a_port_alone_may_be_a_number() -> None:
    assert ServeSettings.model_validate({"bundles": ".", "metrics": 9464}).metrics == "9464"


async def test_who_waited_too_long_is_no_part_of_a_batchs_size() -> None:
    batcher: Batcher[int, int] = Batcher(lambda items: items, name="test", clock=lambda: 5.0)

    wanted = batcher.submit(7, waits=False)
    late = batcher.submit(8, waits=False, expires=4.0)
    found = await asyncio.gather(wanted, late, return_exceptions=True)
    await batcher.close()

    assert found[0] == 7
    assert isinstance(found[1], CloudUnavailable)

    assert (batcher.name, batcher.waiting, dict(batcher.sizes)) == ("test", 0, {1: 1})


async def test_refused_asks_are_logged_once_for_each_code_and_never_by_ask(
    cloud: Cloud, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    device = cloud.device()
    await device.hello(bundle)

    for _ in range(50):
        await device.ask(rank=Rank(items=[1]))
    for _ in range(50):
        await device.ask(refresh=Refresh(items=[1]))

    told = [r for r in caplog.records if r.getMessage() == "asks were refused"]
    assert [record.about["code"] for record in told] == ["bad-ask"]
    assert len(caplog.records) < 10
