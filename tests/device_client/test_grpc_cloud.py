"""The cloud over real sockets, against a servicer that can misbehave."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from device_client.cloud import Identity
from device_client.grpc_cloud import GrpcCloud
from device_client.ledger import DeviceLedger
from device_client.sessions import translated
from device_client.settings import DeviceSettings
from protos.v1.collaboration_pb2 import Fault
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import (
    BadAsk,
    CloudUnavailable,
    ConcertoError,
    InputError,
    Overloaded,
    SlotMismatch,
    UnknownBundle,
)
from shared_models.contract.events import Event, EventBatch
from shared_models.contract.ranking import Receipt, Wanted
from shared_models.contract.uplink import Uplink
from tests.device_client.fakes import SLOT, LoopbackCloud, head, serving

BATCH = EventBatch(7, [Event(3, 1.0), Event(4, 2.5)])


@pytest.fixture
def servicer(bundle: Bundle) -> LoopbackCloud:
    return LoopbackCloud(bundle)


@pytest.fixture
def who(bundle: Bundle) -> Identity:
    return Identity(1, bundle.id)


@pytest.fixture
async def near(
    servicer: LoopbackCloud, settings: DeviceSettings, ledger: DeviceLedger
) -> AsyncIterator[GrpcCloud]:
    async with serving(servicer) as address:
        here = settings.model_copy(update={"cloud": address, "open_sessions": 3, "in_flight": 3})
        async with GrpcCloud(here, ledger) as cloud:
            yield cloud


async def test_a_refresh_crosses_the_wire(near: GrpcCloud, who: Identity, bundle: Bundle) -> None:
    overlay, _ = await near.refresh(who, Uplink([1, 2]), 9, at=3.0)

    assert (overlay.bundle_id, overlay.events_seen) == (bundle.id, 9)
    assert overlay.slots[SLOT].tolist() == head(0.5).tolist()


async def test_a_receipt_says_what_an_exchange_cost(
    servicer: LoopbackCloud, settings: DeviceSettings, who: Identity
) -> None:
    ticks = itertools.count()
    async with serving(servicer) as address:
        here = settings.model_copy(update={"cloud": address})
        async with GrpcCloud(here, DeviceLedger(), clock=lambda: next(ticks)) as cloud:
            await cloud.refresh(who, Uplink([1, 2]), 9, at=3.0)
            _, receipt = await cloud.rank(who, Wanted([1], [5, 6]), 9, at=3.5)

    up, down = servicer.sizes["rank"]
    assert receipt == Receipt(ask=2, bytes_up=up, bytes_down=down, seconds=1)


async def test_asks_carry_time_round_and_a_number_of_their_own(
    near: GrpcCloud, who: Identity, servicer: LoopbackCloud
) -> None:
    near.round = 4
    await near.refresh(who, Uplink([1, 2]), 9, at=3.0)
    await near.rank(who, Wanted([1], [5, 6]), 9, at=3.5)
    await near.upload(who, BATCH)

    assert [(ask.seq, ask.at, ask.round) for ask in servicer.asks] == [
        (1, 3.0, 4),
        (2, 3.5, 4),
        (3, 2.5, 4),
    ]
    assert servicer.hellos[0].hello.waits


async def test_the_account_is_what_the_servicer_saw(
    near: GrpcCloud, who: Identity, servicer: LoopbackCloud, ledger: DeviceLedger
) -> None:
    other = Identity(2, who.bundle_id)
    await near.refresh(who, Uplink([1, 2]), 300, at=3.0)
    await near.refresh(other, Uplink([1, 2, 3]), 2, at=3.0)
    await near.rank(who, Wanted([1], [5, 6]), 9, at=3.0)
    await near.upload(who, BATCH)

    counted: dict[str, tuple[int, int]] = {}
    for _, purpose, spent in ledger.rows():
        up, down = counted.get(purpose, (0, 0))
        counted[purpose] = (up + spent.bytes_up, down + spent.bytes_down)
    sizes = dict(servicer.sizes)
    assert counted == {"control": sizes.pop("hello"), **sizes}
    assert {(user, purpose): spent.asks for user, purpose, spent in ledger.rows()} == {
        (1, "control"): 1,
        (2, "control"): 1,
        (1, "refresh"): 1,
        (2, "refresh"): 1,
        (1, "rank"): 1,
        (1, "upload"): 1,
    }
    payload = [sizes[kind] for kind in ("refresh", "rank", "upload")]
    assert ledger.payload.bytes_up == sum(up for up, _ in payload)
    assert ledger.payload.bytes_down == sum(down for _, down in payload)


async def test_the_longest_unused_session_makes_room(
    near: GrpcCloud, servicer: LoopbackCloud, bundle: Bundle
) -> None:
    for user in (1, 2, 3, 1, 4, 1, 2):
        await near.refresh(Identity(user, bundle.id), Uplink([1]), 1, at=0.0)
    async with asyncio.timeout(20):
        while servicer.open_streams > 3:
            await asyncio.sleep(0.01)

    assert [ask.hello.user for ask in servicer.hellos] == [1, 2, 3, 4, 2]
    assert servicer.open_streams == 3


async def test_asks_are_numbered_alike_however_often_sessions_are_reopened(
    near: GrpcCloud, servicer: LoopbackCloud, bundle: Bundle
) -> None:
    for user in (1, 2, 3, 4, 1):
        await near.refresh(Identity(user, bundle.id), Uplink([1]), 1, at=0.0)

    assert [ask.seq for ask in servicer.asks] == [1, 1, 1, 1, 2]


async def test_a_session_is_reopened_after_the_server_died(
    servicer: LoopbackCloud, settings: DeviceSettings, who: Identity
) -> None:
    async with serving(servicer) as address:
        port = int(address.rpartition(":")[2])
        cloud = GrpcCloud(settings.model_copy(update={"cloud": address}), DeviceLedger())
        await cloud.refresh(who, Uplink([1]), 1, at=0.0)

    with pytest.raises(CloudUnavailable):
        await cloud.refresh(who, Uplink([1]), 1, at=0.0)
    async with cloud, serving(servicer, port):
        for _ in range(50):
            try:
                overlay, _ = await cloud.refresh(who, Uplink([1]), 5, at=0.0)
                break
            except CloudUnavailable:
                await asyncio.sleep(0.05)

    assert overlay.events_seen == 5
    assert len(servicer.hellos) == 2
    first, last = servicer.asks
    assert (first.seq, last.seq > 2) == (1, True)


async def test_a_missing_cloud_is_told_at_once(settings: DeviceSettings, who: Identity) -> None:
    nowhere = settings.model_copy(update={"cloud": "127.0.0.1:1"})
    async with GrpcCloud(nowhere, DeviceLedger()) as cloud:
        with pytest.raises(CloudUnavailable, match=r"127\.0\.0\.1:1"):
            async with asyncio.timeout(3):
                await cloud.refresh(who, Uplink([1]), 1, at=0.0)


async def test_a_server_that_hangs_up_makes_the_cloud_unavailable(
    near: GrpcCloud, servicer: LoopbackCloud, who: Identity
) -> None:
    await near.refresh(who, Uplink([1]), 1, at=0.0)
    servicer.hang_up = True

    with pytest.raises(CloudUnavailable):
        await near.refresh(who, Uplink([1]), 1, at=0.0)

    assert (await near.refresh(who, Uplink([1]), 3, at=0.0))[0].events_seen == 3


async def test_an_answer_past_the_deadline_is_not_waited_for(
    servicer: LoopbackCloud, settings: DeviceSettings, who: Identity
) -> None:
    servicer.stall = True
    async with serving(servicer) as address:
        hurried = settings.model_copy(update={"cloud": address, "deadline_s": 1.0})
        async with GrpcCloud(hurried, DeviceLedger()) as cloud:
            with pytest.raises(CloudUnavailable, match="in time"):
                await cloud.refresh(who, Uplink([1]), 1, at=0.0)

            servicer.stall = False
            assert (await cloud.refresh(who, Uplink([1]), 2, at=0.0))[0].events_seen == 2
    assert not servicer.hellos[0].hello.waits


async def test_a_device_that_is_ended_while_it_waits_is_not_told_of_a_missing_cloud(
    near: GrpcCloud, servicer: LoopbackCloud, who: Identity
) -> None:
    servicer.stall = True
    waiting = asyncio.create_task(near.refresh(who, Uplink([1]), 1, at=0.0))
    await asyncio.sleep(0.1)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("bad-ask", BadAsk),
        ("slot-mismatch", SlotMismatch),
        ("unknown-bundle", UnknownBundle),
        ("overloaded", Overloaded),
        ("never-heard-of", CloudUnavailable),
    ],
)
async def test_a_fault_becomes_the_error_that_it_names_and_the_session_lives_on(
    near: GrpcCloud, servicer: LoopbackCloud, who: Identity, code: str, kind: type[ConcertoError]
) -> None:
    servicer.fault = Fault(code=code, message="so it is", retry_after_ms=40)

    with pytest.raises(kind) as caught:
        await near.refresh(who, Uplink([1]), 1, at=0.0)
    servicer.fault = None
    await near.refresh(who, Uplink([1]), 1, at=0.0)

    assert ("so it is" in str(caught.value)) != (kind is Overloaded)
    assert getattr(caught.value, "retry_after_ms", 40) == 40
    assert len(servicer.hellos) == 1


async def test_the_journal_s_count_comes_with_the_welcome(near: GrpcCloud, who: Identity) -> None:
    assert await near.events_stored(who) == 7


async def test_an_unknown_method_is_the_users_error(near: GrpcCloud) -> None:
    with pytest.raises(InputError, match="no bundle of 'nope'"):
        await near.released("nope")


async def test_an_unknown_bundle_is_told_as_such(near: GrpcCloud) -> None:
    with pytest.raises(UnknownBundle):
        async for _ in near.fetch_bundle("0" * 64, 0):
            pass


async def test_a_process_waits_for_its_bundle_s_cloud_and_names_the_address(
    settings: DeviceSettings,
) -> None:
    nowhere = settings.model_copy(update={"cloud": "127.0.0.1:1", "connect_s": 0.3})
    async with GrpcCloud(nowhere, DeviceLedger()) as cloud:
        with pytest.raises(CloudUnavailable, match=r"127\.0\.0\.1:1 did not answer in time"):
            await cloud.released("tiny")


async def test_a_busy_session_never_makes_room(
    near: GrpcCloud, servicer: LoopbackCloud, bundle: Bundle
) -> None:
    servicer.stall = True
    slow = asyncio.create_task(near.refresh(Identity(1, bundle.id), Uplink([1]), 6, at=0.0))
    await asyncio.sleep(0.1)
    for user in (2, 3, 4):
        await near.rank(Identity(user, bundle.id), Wanted([1], [5]), 1, at=0.0)

    servicer.stall = False

    assert (await slow)[0].events_seen == 6


async def test_a_stream_that_the_server_cancels_is_a_missing_cloud() -> None:
    with pytest.raises(CloudUnavailable, match="ended the call"), translated("here:1"):
        raise asyncio.CancelledError
