"""The cloud's process: where it listens, what it hands out, how it ends."""

import asyncio
import contextlib
import hashlib
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pydantic import ValidationError

from cloud_server.bundles import CHUNK_BYTES
from cloud_server.events import EventJournal
from cloud_server.server import listening, serve
from cloud_server.settings import ServeSettings
from cloud_server.statuses import STATUS, status_of
from protos.v1.collaboration_pb2 import BundleRequest, Refresh, ReleasesRequest, Upload
from shared_models.contract.bundle import Bundle, unpack
from shared_models.contract.errors import BadSetting, BundleCorrupt, PathMissing, PortTaken
from tests.cloud_server.conftest import Cloud, OpenCloud, TinyMethod, make_bundle, release


async def fetched(cloud: Cloud, bundle: Bundle, offset: int = 0) -> bytes:
    """The packed bundle from ``offset`` on, its chunks checked."""
    data = b""
    async for chunk in cloud.stub.FetchBundle(
        BundleRequest(id=bundle.id, offset=offset), timeout=20
    ):
        assert chunk.offset == offset + len(data)
        assert len(chunk.data) <= CHUNK_BYTES
        data += chunk.data
        assert chunk.offset + len(chunk.data) <= chunk.total
    assert offset + len(data) == chunk.total
    return data


async def code_of(call: AsyncIterator[Any]) -> grpc.StatusCode:
    with pytest.raises(aio.AioRpcError) as refused:
        async for _ in call:
            pass
    return refused.value.code()


async def test_a_bundle_arrives_as_it_was_released(cloud: Cloud, bundle: Bundle) -> None:
    data = await fetched(cloud, bundle)

    assert len(data) > 2 * CHUNK_BYTES
    assert unpack(data, bundle.id).files == bundle.files


async def test_a_download_resumes_at_any_byte(cloud: Cloud, bundle: Bundle) -> None:
    whole = await fetched(cloud, bundle)

    for offset in (1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(whole) - 1, len(whole)):
        assert await fetched(cloud, bundle, offset) == whole[offset:]


async def test_a_restarted_cloud_sends_the_same_bytes(
    open_cloud: OpenCloud, bundle: Bundle
) -> None:
    hashes = []
    for _ in range(2):
        async with open_cloud() as cloud:
            hashes.append(hashlib.sha256(await fetched(cloud, bundle)).hexdigest())

    assert hashes[0] == hashes[1]


async def test_an_unknown_bundle_is_not_found(cloud: Cloud) -> None:
    for bundle_id in ("", "models", "f" * 64):
        code = await code_of(cloud.stub.FetchBundle(BundleRequest(id=bundle_id), timeout=20))
        assert code is grpc.StatusCode.NOT_FOUND


async def test_an_offset_beyond_the_end_is_refused(cloud: Cloud, bundle: Bundle) -> None:
    request = BundleRequest(id=bundle.id, offset=1 << 40)

    assert await code_of(cloud.stub.FetchBundle(request, timeout=20)) is (
        grpc.StatusCode.INVALID_ARGUMENT
    )


async def test_a_damaged_bundle_is_not_sent_and_no_path_is_told(
    open_cloud: OpenCloud, bundle: Bundle, root: Path
) -> None:
    async with open_cloud() as cloud:
        (root / bundle.id / "scorer.onnx").write_bytes(b"junk")

        with pytest.raises(aio.AioRpcError) as refused:
            await fetched(cloud, bundle)

    assert refused.value.code() is grpc.StatusCode.DATA_LOSS
    assert refused.value.details() == "The cloud's copy of this bundle is damaged."


async def test_watchers_hear_of_the_released_bundle_and_of_each_new_one(
    open_cloud: OpenCloud, bundle: Bundle, root: Path
) -> None:
    async with open_cloud(release_poll_s=0.02) as cloud:
        watchers = [
            cloud.stub.WatchReleases(ReleasesRequest(method=name), timeout=20)
            for name in ("tiny", "")
        ]
        first = [(await watcher.read()).bundle_id for watcher in watchers]
        second = release(root, make_bundle(log_hash="1" * 64))
        news = [(await watcher.read()).bundle_id for watcher in watchers]
        device = cloud.device()
        welcome = await device.hello(second)

    assert first == [bundle.id] * 2
    assert news == [second.id] * 2
    assert welcome.HasField("welcome")


async def test_a_watcher_hears_nothing_of_other_methods(
    open_cloud: OpenCloud, bundle: Bundle, root: Path
) -> None:
    async with open_cloud(release_poll_s=0.02) as cloud:
        watcher = cloud.stub.WatchReleases(ReleasesRequest(method="tiny"), timeout=20)
        assert (await watcher.read()).bundle_id == bundle.id

        release(root, make_bundle("other"))
        await asyncio.sleep(0.2)
        newer = release(root, make_bundle(log_hash="1" * 64))

        assert (await watcher.read()).bundle_id == newer.id


@pytest.mark.usefixtures("bundle")
async def test_who_watches_an_unreleased_method_is_told_which_there_are(
    open_cloud: OpenCloud, root: Path
) -> None:
    release(root, make_bundle("other"))
    async with open_cloud() as cloud:
        wrong = cloud.stub.WatchReleases(ReleasesRequest(method="tinny"), timeout=20)
        unnamed = cloud.stub.WatchReleases(ReleasesRequest(), timeout=20)

        assert await code_of(wrong) is grpc.StatusCode.NOT_FOUND
        assert "did you mean 'tiny'?" in (await wrong.details() or "")
        assert await code_of(unnamed) is grpc.StatusCode.INVALID_ARGUMENT
        assert await unnamed.details() == "name a method, one of other, tiny"


async def test_health_is_serving_and_reflection_names_the_service(cloud: Cloud) -> None:
    health = health_pb2_grpc.HealthStub(cloud.channel)
    reflection = reflection_pb2_grpc.ServerReflectionStub(cloud.channel)

    status = await health.Check(health_pb2.HealthCheckRequest(), timeout=20)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = await reflection.ServerReflectionInfo(iter([ask]), timeout=20).read()

    assert status.status == health_pb2.HealthCheckResponse.SERVING
    names = {service.name for service in answer.list_services_response.service}
    assert "protos.v1.Collaboration" in names


@pytest.mark.usefixtures("load_tiny")
async def test_a_cloud_that_stops_answers_what_it_has_taken(
    root: Path, bundle: Bundle, method: TinyMethod
) -> None:
    async with contextlib.AsyncExitStack() as dialled, contextlib.AsyncExitStack() as serving:
        settings = ServeSettings(bundles=root, listen="127.0.0.1:0", device="cpu", grace_s=2)
        address = await serving.enter_async_context(listening(settings))
        channel = await dialled.enter_async_context(aio.insecure_channel(address))
        device, idle = (Cloud.dial(address, channel).device() for _ in range(2))
        await device.hello(bundle)
        await idle.hello(bundle, user=2)
        method.gate.clear()
        asked = asyncio.create_task(device.ask(refresh=Refresh(items=[1])))
        while not method.asked:
            await asyncio.sleep(0.001)

        ending = asyncio.create_task(serving.aclose())
        await asyncio.sleep(0.05)
        refused = await idle.ask(refresh=Refresh(items=[1]))
        method.gate.set()
        answer = await asked
        await asyncio.wait_for(ending, 10)

    assert answer.overlay.slots
    assert refused.fault.code == "cloud-unavailable"


@pytest.mark.usefixtures("load_tiny")
async def test_sigterm_stops_the_cloud_and_keeps_what_it_stored(bundle: Bundle, root: Path) -> None:
    addresses: asyncio.Queue[str] = asyncio.Queue()
    settings = ServeSettings(bundles=root, listen="127.0.0.1:0", device="cpu")
    serving = asyncio.create_task(serve(settings, ready=addresses.put_nowait))
    address = await asyncio.wait_for(addresses.get(), 20)
    async with aio.insecure_channel(address) as channel:
        device = Cloud.dial(address, channel).device()
        await device.hello(bundle)
        await device.ask(upload=Upload(items=[5], times=[1.0]))

        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 10)

    journal = EventJournal(root / "journal.sqlite")
    assert [entry.event.item for entry in journal] == [5]
    journal.close()


@pytest.mark.usefixtures("bundle")
async def test_a_taken_port_is_named(open_cloud: OpenCloud) -> None:
    async with open_cloud() as cloud:
        with pytest.raises(PortTaken, match=cloud.address):
            async with open_cloud(listen=cloud.address):
                pass


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("listen", ["no.such.host.invalid:0", "192.0.2.1:0", "[::zz]:0"])
async def test_an_address_that_is_not_ours_is_not_called_taken(
    open_cloud: OpenCloud, listen: str
) -> None:
    with pytest.raises(BadSetting, match=re.escape(listen)):
        async with open_cloud(listen=listen):
            pass


async def test_a_folder_without_releases_is_named(
    tmp_path: Path, root: Path, open_cloud: OpenCloud
) -> None:
    root.mkdir()
    for folder, words in ((root, "no such release"), (tmp_path / "away", "no such folder")):
        with pytest.raises(PathMissing, match=words):
            async with open_cloud(bundles=folder):
                pass


async def test_a_bundle_that_needs_a_model_and_has_none_is_not_served(
    root: Path, bundle: Bundle
) -> None:
    settings = ServeSettings(bundles=root, listen="127.0.0.1:0")

    with pytest.raises(PathMissing, match=bundle.id):
        await serve(settings, ready=lambda _: None)


@pytest.mark.slow
async def test_a_device_that_pings_every_second_is_not_cut_off(
    open_cloud: OpenCloud, bundle: Bundle
) -> None:
    async with open_cloud(ping_floor_s=0.5) as cloud:
        options = [
            ("grpc.keepalive_time_ms", 1000),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        async with aio.insecure_channel(cloud.address, options=options) as channel:
            device = Cloud.dial(cloud.address, channel).device()
            await device.hello(bundle)

            await asyncio.sleep(8)

            assert (await device.ask(refresh=Refresh(items=[1]))).overlay.slots


async def test_the_cloud_keeps_as_many_events_of_a_user_as_it_is_told(
    open_cloud: OpenCloud, root: Path, bundle: Bundle
) -> None:
    upload = Upload(items=[3, 4, 5, 6], times=[1.0, 2.0, 3.0, 4.0])
    async with open_cloud(history=2) as cloud:
        device = cloud.device()
        await device.hello(bundle)
        stored = (await device.ask(upload=upload)).stored.events_stored

    assert stored == 4
    journal = EventJournal(root / "journal.sqlite")
    assert [entry.event.item for entry in journal] == [5, 6]
    journal.close()


def test_settings_come_from_options_then_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONCERTO_CLOUD_ROOM", "7")
    monkeypatch.setenv("CONCERTO_CLOUD_LARGEST_BATCH", "9")

    settings = ServeSettings.model_validate({"bundles": tmp_path, "largest_batch": 3})

    assert (settings.room, settings.largest_batch) == (7, 3)
    assert settings.journal_path == tmp_path / "journal.sqlite"


@pytest.mark.parametrize("listen", ["50051", ":50051", "localhost:", "localhost:http", "a:70000"])
def test_an_address_without_host_and_port_is_refused(listen: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="write HOST:PORT"):
        ServeSettings(bundles=tmp_path, listen=listen)


def test_an_error_outside_the_table_tells_nothing_of_the_inside(tmp_path: Path) -> None:
    status, message = status_of(PathMissing(tmp_path))

    assert status is grpc.StatusCode.INTERNAL
    assert str(tmp_path) not in message
    assert status_of(BundleCorrupt("/secret/path"))[1] == STATUS[BundleCorrupt.code][1]
