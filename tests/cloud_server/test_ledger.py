"""The cloud's account of exchanges: everything once, and nothing half-written."""

import errno
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path

import polars as pl
import pytest
from grpc import aio

from cloud_server import ledger as ledger_module
from cloud_server.batcher import Stay
from cloud_server.ledger import ExchangeLedger, recording
from cloud_server.server import listening
from cloud_server.settings import ServeSettings
from protos.v1.collaboration_pb2 import (
    Answer,
    Ask,
    BundleRequest,
    Hello,
    Rank,
    Refresh,
    ReleasesRequest,
    Upload,
)
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import BadSetting, PathMissing
from tests.cloud_server.conftest import Cloud, OpenCloud

SESSION = "/protos.v1.Collaboration/Session"


async def test_every_message_of_a_session_is_counted_once_with_its_user_and_purpose(
    open_cloud: OpenCloud, bundle: Bundle, tmp_path: Path
) -> None:
    asks = [
        Ask(hello=Hello(user=7, bundle_id=bundle.id)),
        Ask(seq=1, at=2.0, refresh=Refresh(items=[1, 2, 3])),
        Ask(seq=2, rank=Rank(items=[1], candidates=[4, 5])),
        Ask(seq=3, upload=Upload(items=[5], times=[1.0])),
        Ask(seq=4, rank=Rank(items=[1])),
        Ask(seq=5),
    ]
    replies = []
    async with open_cloud(ledger=tmp_path / "ledger.parquet") as cloud:
        call = cloud.channel.stream_stream(SESSION)(timeout=20)
        for ask in asks:
            await call.write(ask.SerializeToString())
            replies.append(await call.read())

    rows = pl.read_parquet(tmp_path / "ledger.parquet")

    assert rows["user"].to_list() == [7] * 6
    assert rows["purpose"].to_list() == [
        *("control", "refresh", "rank", "upload", "rank", "control")
    ]
    assert rows["ask"].to_list() == [0, 1, 2, 3, 4, 5]
    assert rows["bytes_up"].to_list() == [ask.ByteSize() for ask in asks]
    assert rows["bytes_down"].to_list() == [len(reply) for reply in replies]
    computed = rows["compute_seconds"].to_list()
    assert computed[1] > 0
    assert computed[2] > 0
    assert [computed[0], computed[3], computed[5]] == [None, None, None]
    assert (rows["queue_seconds"].is_null() == rows["compute_seconds"].is_null()).all()


async def test_downloads_and_releases_belong_to_nobody(
    open_cloud: OpenCloud, bundle: Bundle, tmp_path: Path
) -> None:
    asked, size = BundleRequest(id=bundle.id), 0
    released = ReleasesRequest(method="tiny")
    async with open_cloud(ledger=tmp_path / "ledger.parquet") as cloud:
        async for chunk in cloud.stub.FetchBundle(asked, timeout=20):
            size += chunk.ByteSize()
        watch = cloud.stub.WatchReleases(released, timeout=20)
        size += (await watch.read()).ByteSize()
        watch.cancel()

    rows = pl.read_parquet(tmp_path / "ledger.parquet")

    assert rows["user"].unique().to_list() == [None]
    assert rows["purpose"].unique().to_list() == ["bundle"]
    assert rows["bytes_up"].sum() == asked.ByteSize() + released.ByteSize()
    assert rows["bytes_down"].sum() == size


@pytest.mark.usefixtures("load_tiny")
async def test_the_kernels_count_of_open_connections_is_kept(
    root: Path, bundle: Bundle, tmp_path: Path
) -> None:
    settings = ServeSettings(
        bundles=root, listen="127.0.0.1:0", device="cpu", ledger=tmp_path / "ledger.parquet"
    )
    async with AsyncExitStack() as dialled, listening(settings) as address:
        channel = await dialled.enter_async_context(aio.insecure_channel(address))
        await Cloud.dial(address, channel).device().hello(bundle)

    (told,) = json.loads(pl.read_parquet_metadata(tmp_path / "ledger.parquet")["connections"])

    assert told["local"] == address
    hello = pl.read_parquet(tmp_path / "ledger.parquet")
    assert told["received"] > hello["bytes_up"].sum() + 100
    assert told["sent"] > hello["bytes_down"].sum() + 50


async def test_a_message_that_is_none_of_ours_is_answered_and_the_session_lives_on(
    open_cloud: OpenCloud, bundle: Bundle
) -> None:
    async with open_cloud() as cloud:
        call: aio.StreamStreamCall[bytes, bytes] = cloud.channel.stream_stream(SESSION)(timeout=20)
        await call.write(b"\xff\xff\xff")
        refused = Answer.FromString(await call.read())
        hello = Ask(hello=Hello(user=1, bundle_id=bundle.id))
        await call.write(hello.SerializeToString())
        welcome = Answer.FromString(await call.read())

    assert refused.fault.code == "bad-ask"
    assert welcome.HasField("welcome")


@pytest.mark.usefixtures("bundle")
async def test_without_a_path_nothing_is_written(open_cloud: OpenCloud, tmp_path: Path) -> None:
    async with open_cloud() as cloud:
        watch = cloud.stub.WatchReleases(ReleasesRequest(method="tiny"), timeout=20)
        await watch.read()
        watch.cancel()

    assert list(tmp_path.rglob("*.parquet*")) == []


def test_memory_is_bounded_and_rows_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_GROUP", 4)
    path = tmp_path / "ledger.parquet"
    with recording(path) as ledger:
        assert isinstance(ledger, ExchangeLedger)
        for ask in range(11):
            ledger.enter(1, "refresh", ask, (10, 20), Stay(0.5, 0.25))
            assert len(ledger._columns["ask"]) < 4
        assert not path.exists()

    rows = pl.read_parquet(path)

    assert rows["ask"].to_list() == list(range(11))
    assert rows["queue_seconds"].to_list() == [0.5] * 11
    assert rows["compute_seconds"].to_list() == [0.25] * 11
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_whatever_number_an_ask_has_the_ledger_holds_it(tmp_path: Path) -> None:
    path, largest = tmp_path / "ledger.parquet", 2**64 - 1
    with recording(path) as ledger:
        ledger.enter(1, "control", largest, (10, 20), None)
        ledger.enter(1, "refresh", 1, (30, 40), Stay(0.5, 0.25))

    assert pl.read_parquet(path)["ask"].to_list() == [largest, 1]


def test_a_cloud_that_could_not_start_leaves_no_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_GROUP", 1)

    def start() -> None:
        with recording(tmp_path / "ledger.parquet") as ledger:
            ledger.enter(None, "bundle", 0, (1, 1), None)
            raise ValueError("no model")

    with pytest.raises(ValueError, match="no model"):
        start()

    assert list(tmp_path.iterdir()) == []


def test_a_ledger_without_a_folder_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(PathMissing, match="folder for the ledger"),
        recording(tmp_path / "no" / "ledger.parquet"),
    ):
        pass


def test_a_ledger_that_is_a_folder_is_told_before_anything_is_served(tmp_path: Path) -> None:
    with (
        pytest.raises(BadSetting, match=r"'ledger': .* is a folder: name a file in it"),
        recording(tmp_path),
    ):
        pass


def test_a_ledger_that_may_not_be_written_is_told_before_anything_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(dir: Path) -> None:  # noqa: A002 - as the name is there
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), dir)

    monkeypatch.setattr(ledger_module, "TemporaryFile", refuse)

    with (
        pytest.raises(BadSetting, match=r"ledger\.parquet cannot be written: Permission denied"),
        recording(tmp_path / "ledger.parquet"),
    ):
        pass
