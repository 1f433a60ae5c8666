"""Who may join a simulation under mutual TLS, and whose tokens a process gets."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from grpc import StatusCode, aio

from protos.v1.simulation_pb2 import AuthorizeRequest, Begin, InitialWindow, Joined, Report
from protos.v1.simulation_pb2_grpc import SimulationStub
from shared_models.contract.errors import BadSetting, PathMissing
from shared_models.contract.health import is_serving
from shared_models.contract.security import Role
from shared_models.identity.tokens import read_verifier
from simulator.coordinator import Coordinator
from simulator.identity import Identities
from simulator.sites import CLOUD, Places, Sites
from tests.identities import HANDSHAKE, Authority, Visitors, settled

REFUSED = {
    **dict.fromkeys(HANDSHAKE, StatusCode.UNAVAILABLE),
    **dict.fromkeys(("revoked", "cloud", "simulator"), StatusCode.PERMISSION_DENIED),
}


@pytest.fixture
async def coordinator(visitors: Visitors) -> AsyncIterator[Coordinator]:
    async with Coordinator(identity=visitors.authority.identity("simulator")) as opened:
        yield opened


class Process:
    """A device process that has joined, as far as these tests need one."""

    def __init__(self, channel: aio.Channel) -> None:
        self._stub = SimulationStub(channel)
        self.call = self._stub.Join()

    async def join(self, pid: int = 1) -> None:
        await self.call.write(Report(joined=Joined(pid=pid)))

    async def tokens(self, *users: int) -> Sequence[str]:
        given = await self._stub.Authorize(AuthorizeRequest(users=users), timeout=20)
        assert given.lifetime_s == 900
        return list(given.tokens)


def begin(*users: int) -> Begin:
    return Begin(method="tiny", windows=[InitialWindow(user=user) for user in users])


@asynccontextmanager
async def holding(
    visitors: Visitors, coordinator: Coordinator, who: str, *users: int
) -> AsyncIterator[Process]:
    """A process of ``who`` that was given ``users``."""
    async with visitors.dial(coordinator.address, who) as channel:
        process = Process(channel)
        await process.join()
        (link,) = await coordinator.gathered(1, timeout_s=10)
        beginning = asyncio.create_task(link.begin(begin(*users)))
        await process.call.read()
        yield process
        beginning.cancel()


@pytest.mark.parametrize("who", REFUSED)
async def test_only_devices_join(coordinator: Coordinator, visitors: Visitors, who: str) -> None:
    async with visitors.dial(coordinator.address, who) as channel:

        async def ended() -> StatusCode:
            process = Process(channel)
            with suppress(asyncio.InvalidStateError, aio.AioRpcError):
                await process.join()
                await process.call.read()
            return await process.call.code()

        assert await settled(ended) is REFUSED[who]


@pytest.mark.parametrize("who", REFUSED)
async def test_only_devices_get_tokens(
    coordinator: Coordinator, visitors: Visitors, who: str
) -> None:
    async with visitors.dial(coordinator.address, who) as channel:
        with pytest.raises(aio.AioRpcError) as refused:
            await Process(channel).tokens()

    assert refused.value.code() is REFUSED[who]


async def test_a_process_gets_tokens_of_its_users_for_its_own_certificate(
    coordinator: Coordinator, visitors: Visitors
) -> None:
    async with holding(visitors, coordinator, "device", 3, 5) as process:
        tokens = await process.tokens(5, 3)

    verifier = read_verifier(visitors.authority.ca, lambda: datetime.now(UTC).timestamp())
    shown = visitors.thumbprint("device")
    assert [verifier.user(token, shown) for token in tokens] == [5, 3]


async def refusal(process: Process, *users: int) -> str | None:
    with pytest.raises(aio.AioRpcError) as refused:
        await process.tokens(*users)
    assert refused.value.code() is StatusCode.PERMISSION_DENIED
    return refused.value.details()


async def test_nobody_gets_a_token_of_another_processs_user(
    coordinator: Coordinator, visitors: Visitors
) -> None:
    async with (
        holding(visitors, coordinator, "device", 3) as one,
        holding(visitors, coordinator, "other-device", 4) as other,
    ):
        assert await refusal(one, 3, 4) == "user 4 is with another process"
        assert await refusal(other, 3) == "user 3 is with another process"
        assert len(await one.tokens(3)) == len(await other.tokens(4)) == 1


async def test_a_process_that_has_left_gets_no_more_tokens(
    coordinator: Coordinator, visitors: Visitors
) -> None:
    async with visitors.dial(coordinator.address, "device") as channel:
        async with holding(visitors, coordinator, "device", 3) as left:
            await left.tokens(3)
        process = Process(channel)

        with pytest.raises(aio.AioRpcError) as refused:
            await until_refused(process, 3)

    assert refused.value.code() is StatusCode.PERMISSION_DENIED


async def until_refused(process: Process, user: int) -> None:
    while True:
        await process.tokens(user)
        await asyncio.sleep(0.01)


async def test_too_many_users_at_once_are_refused(
    coordinator: Coordinator, visitors: Visitors
) -> None:
    async with holding(visitors, coordinator, "device", 3) as process:
        assert "at most 1024" in (await refusal(process, *[3] * 1025) or "")


async def test_in_clear_there_are_no_tokens() -> None:
    async with Coordinator() as opened, aio.insecure_channel(opened.address) as channel:
        assert "none is given" in (await refusal(Process(channel)) or "")


async def test_a_process_whose_certificate_is_revoked_leaves_within_five_seconds(
    tmp_path: Path,
) -> None:
    authority = Authority.make(tmp_path / "authority")
    authority.add(Role.DEVICE, "bad")
    own, visitors = authority.add(Role.SIMULATOR, "s"), Visitors(authority, authority)
    async with (
        Coordinator(identity=authority.identity("s")) as coordinator,
        holding(visitors, coordinator, "bad", 3) as process,
    ):
        authority.revoke("bad", own / "crl.pem")

        async with asyncio.timeout(5):
            assert await process.call.code() is StatusCode.PERMISSION_DENIED
        await refusal(process, 3)


def test_a_run_wants_the_identities_of_what_it_starts(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    authority.add(Role.SIMULATOR, "simulator")
    authority.add(Role.CLOUD, "cloud")

    with pytest.raises(PathMissing, match="device: no such folder of an identity"):
        Places(tls=tmp_path).identities()
    waiting = Places(tls=tmp_path, listen="0.0.0.0:0").identities()
    authority.add(Role.DEVICE, "device")
    starting = Places(tls=tmp_path).identities()

    assert waiting.own == starting.own == authority.identity("simulator")
    assert starting.option(Role.DEVICE) == ("--identity", str(tmp_path / "device"))


@pytest.mark.parametrize("place", ["listen", "cloud_host"])
def test_a_run_over_machines_wants_identities_or_the_word_plaintext(place: str) -> None:
    elsewhere = {place: "0.0.0.0:50052"}

    with pytest.raises(BadSetting, match=r"reaches beyond this machine: give --identity DIR"):
        Places(**elsewhere).identities()  # type: ignore[arg-type]
    cleared = Places(**elsewhere, plaintext=True).identities()  # type: ignore[arg-type]

    assert cleared.option(Role.DEVICE) == ("--plaintext",)
    assert Places().identities().option(Role.DEVICE) == ()


def test_a_cloud_elsewhere_has_an_identity_of_its_own(visitors: Visitors) -> None:
    identities = Identities(visitors.authority.identity("simulator"), visitors.authority.folder)

    here, there = (Sites(found, identities=identities) for found in ({}, {CLOUD: lambda *_: None}))

    assert here.cloud_identity == ("--identity", str(visitors.authority.folder / "cloud"))
    assert there.cloud_identity == ()


async def test_everybody_with_a_certificate_may_probe_the_simulators_health(
    coordinator: Coordinator, visitors: Visitors
) -> None:
    names = ("device", "cloud", "simulator", "revoked")
    found = [
        await asyncio.to_thread(is_serving, coordinator.address, visitors.authority.identity(name))
        for name in names
    ]

    assert dict(zip(names, found, strict=True)) == {
        "device": True,
        "cloud": True,
        "simulator": True,
        "revoked": False,
    }
    assert not await asyncio.to_thread(is_serving, coordinator.address)
