"""Connections of a process: one for all, or one for each session, which leaves with it."""

import asyncio
import os
from collections.abc import AsyncIterator

import psutil
import pytest

from device_client.cloud import Identity
from device_client.grpc_cloud import GrpcCloud
from device_client.ledger import DeviceLedger
from device_client.settings import DeviceSettings
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import BadSetting, CloudUnavailable
from shared_models.contract.settings import validated
from shared_models.contract.uplink import Uplink
from tests.device_client.fakes import LoopbackCloud, serving


@pytest.fixture
def servicer(bundle: Bundle) -> LoopbackCloud:
    return LoopbackCloud(bundle)


@pytest.fixture
async def address(servicer: LoopbackCloud) -> AsyncIterator[str]:
    async with serving(servicer) as address:
        yield address


def connections(address: str) -> int:
    """How many connections this process has made to ``address``."""
    port = int(address.rpartition(":")[2])
    made = psutil.Process(os.getpid()).net_connections("tcp")
    return sum(c.status == psutil.CONN_ESTABLISHED and c.raddr[1] == port for c in made if c.raddr)


async def settled(address: str, wanted: int) -> int:
    """The connections to ``address``, as soon as they are ``wanted`` or after a while."""
    for _ in range(200):
        if connections(address) == wanted:
            break
        await asyncio.sleep(0.02)
    return connections(address)


@pytest.mark.parametrize(("channel", "expected"), [("shared", 1), ("own", 3)])
async def test_users_share_a_connection_or_have_their_own(
    address: str, settings: DeviceSettings, bundle: Bundle, channel: str, expected: int
) -> None:
    here = settings.model_copy(update={"cloud": address, "channel": channel})

    async with GrpcCloud(here, DeviceLedger()) as cloud:
        for user in (1, 2, 3, 1, 2, 3):
            await cloud.refresh(Identity(user, bundle.id), Uplink([1]), 1, at=0.0)

        assert await settled(address, expected) == expected
    assert await settled(address, 0) == 0


async def test_connections_are_bounded_as_sessions_are(
    address: str, settings: DeviceSettings, bundle: Bundle
) -> None:
    bounds = {"cloud": address, "channel": "own", "open_sessions": 2, "in_flight": 2}

    async with GrpcCloud(settings.model_copy(update=bounds), DeviceLedger()) as cloud:
        for user in range(8):
            await cloud.refresh(Identity(user, bundle.id), Uplink([1]), 1, at=0.0)

        assert await settled(address, 2) == 2


async def test_a_session_that_is_opened_again_leaves_no_connection_behind(
    address: str, servicer: LoopbackCloud, settings: DeviceSettings, bundle: Bundle
) -> None:
    here = settings.model_copy(update={"cloud": address, "channel": "own"})
    who = Identity(1, bundle.id)

    async with GrpcCloud(here, DeviceLedger()) as cloud:
        await cloud.refresh(who, Uplink([1]), 1, at=0.0)
        servicer.hang_up = True
        with pytest.raises(CloudUnavailable):
            await cloud.refresh(who, Uplink([1]), 1, at=0.0)

        assert (await cloud.refresh(who, Uplink([1]), 4, at=0.0))[0].events_seen == 4
        assert await settled(address, 1) == 1


async def test_the_account_does_not_depend_on_the_connections(
    address: str, settings: DeviceSettings, bundle: Bundle
) -> None:
    accounts = []
    for channel in ("shared", "own"):
        ledger = DeviceLedger()
        here = settings.model_copy(update={"cloud": address, "channel": channel})
        async with GrpcCloud(here, ledger) as cloud:
            for user in (1, 2, 1):
                await cloud.refresh(Identity(user, bundle.id), Uplink([1, 2]), 9, at=3.0)
        accounts.append(list(ledger.rows()))

    assert accounts[0] == accounts[1]


def test_a_channel_is_shared_or_own() -> None:
    with pytest.raises(BadSetting, match=r"device\.channel"):
        validated(DeviceSettings, "device", {"channel": "mine"})
