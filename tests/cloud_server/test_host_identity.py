"""Who may run commands on a cloud's machine: simulators, and nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from grpc import StatusCode, aio

from cloud_server.host import HostSettings, run_host
from protos.v1.cloud_host_pb2 import Attendance, Command, Start
from protos.v1.cloud_host_pb2_grpc import CloudHostStub
from shared_models.contract.errors import BadSetting, CertificateRefused
from shared_models.contract.health import is_serving
from simulator.remote import CloudHost
from tests.identities import HANDSHAKE, Visitors, settled

REFUSED = {
    **dict.fromkeys(HANDSHAKE, StatusCode.UNAVAILABLE),
    **dict.fromkeys(("revoked", "device", "cloud"), StatusCode.PERMISSION_DENIED),
}


@asynccontextmanager
async def hosting(settings: HostSettings) -> AsyncIterator[str]:
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(run_host(settings, once=False, ready=address.set_result))
    await asyncio.wait({address, serving}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    yield await address
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


@pytest.fixture
async def host(visitors: Visitors) -> AsyncIterator[str]:
    settings = HostSettings("127.0.0.1:0", visitors.authority.folder / "cloud")
    async with hosting(settings) as address:
        yield address


async def ended(channel: aio.Channel, kind: str) -> StatusCode:
    """What comes of an attendance, or of a command that says what it lacks."""
    stub = CloudHostStub(channel)

    async def once() -> StatusCode:
        call = stub.Attend() if kind == "attend" else stub.Run()
        word = Attendance() if kind == "attend" else Command(start=Start(arguments=["resolve"]))
        with suppress(asyncio.InvalidStateError, aio.AioRpcError, aio.InternalError):
            await call.write(word)
            await call.done_writing()
            while await call.read() is not aio.EOF:
                pass
        return await call.code()

    return await settled(once)


@pytest.mark.parametrize("kind", ["attend", "run"])
@pytest.mark.parametrize("who", REFUSED)
async def test_only_simulators_run_commands(
    host: str, visitors: Visitors, who: str, kind: str
) -> None:
    async with visitors.dial(host, who) as channel:
        assert await ended(channel, kind) is REFUSED[who]


@pytest.mark.parametrize("kind", ["attend", "run"])
async def test_a_simulator_runs_commands(host: str, visitors: Visitors, kind: str) -> None:
    async with visitors.dial(host, "simulator") as channel:
        assert await ended(channel, kind) is StatusCode.OK


async def test_a_simulator_is_told_why_it_may_not(host: str, visitors: Visitors) -> None:
    def attend(who: str) -> None:
        with CloudHost(host, visitors.authority.identity(who)):
            pass

    await asyncio.to_thread(attend, "simulator")
    with pytest.raises(CertificateRefused, match="not for device 'device': it takes a simulator"):
        await asyncio.to_thread(attend, "device")


async def test_a_host_probes_its_own_health(host: str, visitors: Visitors) -> None:
    assert await asyncio.to_thread(is_serving, host, visitors.authority.identity("cloud"))
    assert not await asyncio.to_thread(is_serving, host)


async def test_off_loopback_a_host_wants_an_identity_or_the_word_plaintext() -> None:
    with pytest.raises(BadSetting, match="--identity DIR"):
        async with hosting(HostSettings("0.0.0.0:0")):
            pass
    async with hosting(HostSettings("0.0.0.0:0", plaintext=True)):
        pass


@pytest.mark.parametrize("listen", ["127.0.0.1:abc", "127.0.0.1:99999", "127.0.0.1"])
async def test_a_host_listens_at_addresses_only(listen: str) -> None:
    with pytest.raises(BadSetting, match="'listen': write HOST:PORT"):
        async with hosting(HostSettings(listen)):
            pass


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (HostSettings("h:1"), {}),
        (HostSettings("h:1", plaintext=True), {"CONCERTO_CLOUD_PLAINTEXT": "1"}),
        (HostSettings("h:1", Path("/own")), {"CONCERTO_CLOUD_IDENTITY": "/own"}),
    ],
)
def test_commands_are_who_their_host_is(settings: HostSettings, told: dict[str, str]) -> None:
    assert settings.environment == told
