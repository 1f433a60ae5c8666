"""Where a device gets what proves its user, and how long it keeps it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode, aio

from device_client.agent import Agent
from device_client.grpc_cloud import GrpcCloud
from device_client.ledger import DeviceLedger
from device_client.settings import DeviceSettings
from device_client.tokens import SimulationTokens, token_file
from protos.v1.simulation_pb2 import AuthorizeRequest, Tokens
from protos.v1.simulation_pb2_grpc import SimulationServicer, add_SimulationServicer_to_server
from shared_models.contract.errors import (
    BadSetting,
    CertificateRefused,
    CloudUnavailable,
    PathMissing,
    TokenRefused,
)
from shared_models.contract.security import bind
from shared_models.contract.settings import validated
from tests.identities import Visitors


class Simulator:
    """Numbers the tokens that it gives, or fails as it is told."""

    def __init__(self, status: StatusCode | None = None) -> None:
        self.status, self.asked = status, list[list[int]]()

    async def __call__(self, request: AuthorizeRequest) -> Tokens:
        if self.status:
            raise aio.AioRpcError(self.status, aio.Metadata(), aio.Metadata(), "a reason")
        self.asked.append(list(request.users))
        tokens = [f"{user}-{len(self.asked)}" for user in request.users]
        return Tokens(tokens=tokens, lifetime_s=900.0)


async def test_a_token_is_kept_until_shortly_before_its_end() -> None:
    simulator, now = Simulator(), [0.0]
    tokens = SimulationTokens(simulator, lambda: now[0])

    given = []
    for now[0] in (0.0, 809.0, 811.0, 1000.0):
        given.append(await tokens(7))

    assert given == ["7-1", "7-1", "7-2", "7-2"]


async def test_each_user_has_a_token() -> None:
    simulator = Simulator()
    tokens = SimulationTokens(simulator)

    assert [await tokens(user) for user in (7, 8, 7)] == ["7-1", "8-2", "7-1"]
    assert simulator.asked == [[7], [8]]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (StatusCode.PERMISSION_DENIED, TokenRefused),
        (StatusCode.UNAVAILABLE, CloudUnavailable),
        (StatusCode.UNIMPLEMENTED, CloudUnavailable),
    ],
)
async def test_a_simulator_that_gives_none_is_told(
    status: StatusCode, error: type[Exception]
) -> None:
    with pytest.raises(error, match="no token for user 7: a reason"):
        await SimulationTokens(Simulator(status))(7)


async def test_a_file_with_a_token_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(PathMissing, match="token: no such file with a token"):
        token_file(path)
    path.write_text("first\n")
    tokens = token_file(path)

    first = await tokens(7)
    path.write_text("second\n")

    assert (first, await tokens(7)) == ("first", "second")


@pytest.mark.parametrize("name", ["identity", "plaintext", "token"])
def test_no_simulation_changes_who_a_process_is(name: str) -> None:
    with pytest.raises(BadSetting, match=rf"device\.{name}.*for the process itself"):
        DeviceSettings().overridden(f'{{"{name}": "x"}}')


@pytest.mark.parametrize("setting", ["cloud", "simulation"])
async def test_another_machine_is_not_met_in_clear_unless_said(setting: str) -> None:
    fields = {setting: "elsewhere:1", "connect_s": 0.05}
    settings = validated(DeviceSettings, "device", fields)
    cleared = validated(DeviceSettings, "device", {**fields, "plaintext": True})

    with pytest.raises(BadSetting, match=rf"device\.{setting}.*--identity DIR"):
        await met(setting, settings)
    with pytest.raises(Exception, match="answer"):
        await met(setting, cleared)


async def met(setting: str, settings: DeviceSettings) -> None:
    if setting == "simulation":
        await Agent(settings, settings.simulation or "").follow()
    async with GrpcCloud(settings, DeviceLedger()) as cloud:
        await cloud.released("")


class Closed(SimulationServicer):
    """A simulation that lets nobody in."""

    async def Join(  # noqa: N802
        self, request_iterator: AsyncIterator[object], context: Any
    ) -> AsyncIterator[object]:
        # gRPC's asyncio client loses a status that comes amid a write.
        await anext(aiter(request_iterator))
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
        yield


async def test_a_process_that_is_not_let_in_says_so(visitors: Visitors) -> None:
    server = aio.server()
    add_SimulationServicer_to_server(Closed(), server)
    address = bind(server, "127.0.0.1:0", visitors.authority.identity("simulator"))
    await server.start()
    settings = DeviceSettings(identity=visitors.authority.folder / "device")
    try:
        with pytest.raises(CertificateRefused, match="lets this process not in: not you"):
            await Agent(settings, address).follow()
    finally:
        await server.stop(None)
