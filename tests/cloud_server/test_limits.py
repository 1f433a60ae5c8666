"""What one user, and all together, may ask of a cloud."""

import grpc
import pytest
from grpc import aio

from protos.v1.collaboration_pb2 import Rank, Refresh, Upload
from shared_models.contract.bundle import Bundle
from tests.cloud_server.conftest import OpenCloud

HOUR = 3600.0


def upload(first: int) -> Upload:
    return Upload(first=first, items=[3], times=[1.0])


async def test_a_user_who_asks_too_much_is_turned_away_and_the_session_lives_on(
    open_cloud: OpenCloud, bundle: Bundle
) -> None:
    async with open_cloud(pace=3, pace_s=HOUR) as cloud:
        device, other = cloud.device(), cloud.device()
        await device.hello(bundle, user=1)
        taken = [await device.ask(upload=upload(first)) for first in range(3)]
        await other.hello(bundle, user=2)

        elsewhere = await other.ask(upload=upload(0))

    assert [answer.fault.code for answer in taken] == ["", "", "overloaded"]
    assert taken[2].fault.retry_after_ms > 0
    assert taken[1].stored.events_stored == 2
    assert not elsewhere.HasField("fault")


async def test_the_sessions_of_a_user_share_one_pace(open_cloud: OpenCloud, bundle: Bundle) -> None:
    async with open_cloud(pace=4, pace_s=HOUR) as cloud:
        devices = [cloud.device() for _ in range(2)]
        for device in devices:
            await device.hello(bundle, user=1)
        asked = [(await device.ask(upload=upload(0))).fault.code for device in devices * 2]

    assert "overloaded" in asked


async def test_who_hangs_up_and_comes_back_goes_on_at_the_same_pace(
    open_cloud: OpenCloud, bundle: Bundle
) -> None:
    answers = []
    async with open_cloud(pace=3, pace_s=HOUR) as cloud:
        for _ in range(3):
            device = cloud.device()
            await device.hello(bundle, user=1)
            answers.append(await device.ask(upload=upload(0)))
            await device.leave()

    assert [answer.fault.code for answer in answers] == ["", "overloaded", "overloaded"]


async def test_a_replay_waits_for_its_turn_and_is_never_turned_away(
    open_cloud: OpenCloud, bundle: Bundle
) -> None:
    async with open_cloud(pace=2, pace_s=0.2) as cloud:
        device = cloud.device()
        await device.hello(bundle, waits=True)

        answers = [await device.ask(upload=upload(first)) for first in range(6)]

    assert [answer.stored.events_stored for answer in answers] == [1, 2, 3, 4, 5, 6]


@pytest.mark.usefixtures("bundle")
async def test_asks_before_a_hello_have_a_pace_too(open_cloud: OpenCloud) -> None:
    async with open_cloud(pace=2, pace_s=HOUR) as cloud:
        device = cloud.device()

        refused = [(await device.ask(refresh=Refresh(items=[1]))).fault.code for _ in range(3)]

    assert refused == ["bad-ask", "bad-ask", "overloaded"]


async def test_more_sessions_than_there_is_room_for_are_refused_until_one_has_gone(
    open_cloud: OpenCloud, bundle: Bundle
) -> None:
    async with open_cloud(sessions=1) as cloud:
        first = cloud.device()
        await first.hello(bundle, user=1)
        refused = await cloud.stub.Session(timeout=20).code()
        await first.leave()

        later = await cloud.device().hello(bundle, user=2)

    assert refused is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not later.HasField("fault")


async def test_a_list_longer_than_the_limit_is_a_bad_ask(
    open_cloud: OpenCloud, bundle: Bundle
) -> None:
    async with open_cloud(largest_list=5) as cloud:
        device = cloud.device()
        await device.hello(bundle)

        answers = [
            await device.ask(refresh=Refresh(items=range(6))),
            await device.ask(rank=Rank(items=[1], candidates=range(6))),
            await device.ask(upload=Upload(items=range(6), times=[0.0] * 6)),
        ]

    assert {answer.fault.code for answer in answers} == {"bad-ask"}


async def test_a_message_larger_than_the_limit_ends_the_call_and_not_the_cloud(
    open_cloud: OpenCloud, bundle: Bundle
) -> None:
    async with open_cloud(message_bytes=2000) as cloud:
        device = cloud.device()
        await device.hello(bundle)
        with pytest.raises(aio.AioRpcError) as refused:
            await device.ask(refresh=Refresh(items=range(1, 4000)))

        later = await cloud.device().hello(bundle)

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not later.HasField("fault")


@pytest.mark.usefixtures("bundle")
async def test_a_request_that_is_no_message_is_refused_as_such(open_cloud: OpenCloud) -> None:
    async with open_cloud() as cloud, aio.insecure_channel(cloud.address) as channel:
        for method in ("FetchBundle", "WatchReleases"):
            call = channel.unary_stream(f"/protos.v1.Collaboration/{method}")(b"\xff\xff")
            with pytest.raises(aio.AioRpcError) as refused:
                await anext(aiter(call))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
