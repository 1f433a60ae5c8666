"""The cloud that a run keeps up: what becomes of one that does not come up, or goes down."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio

from protos.v1.collaboration_pb2 import Release, ReleasesRequest
from protos.v1.collaboration_pb2_grpc import (
    CollaborationServicer,
    add_CollaborationServicer_to_server,
)
from shared_models.contract.errors import RunFailed
from shared_models.contract.security import ProcessIdentity, Role, bind, demand
from simulator import keeper as keeper_module
from simulator.fleet import Fleet
from simulator.keeper import CloudKeeper, announced
from tests.identities import Authority

MUTE = """
import time
print("taking my time", flush=True)
time.sleep(20)
"""


async def test_a_cloud_that_lives_and_is_not_ready_in_time_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mute_cloud.py").write_text(MUTE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path.cwd())]))
    monkeypatch.setattr(keeper_module, "_READY_S", 1.0)

    async with Fleet(tmp_path / "logs") as fleet:
        keeper = CloudKeeper(fleet, "cloud", ["mute_cloud", "--listen", "127.0.0.1:0"])
        with pytest.raises(RunFailed, match="cloud is not ready after 1 s"):
            await keeper.start()

        assert keeper.process is not None
        assert not keeper.process.ended


class Announcing(CollaborationServicer):
    """A cloud that tells one release, to devices where it knows who asks."""

    async def WatchReleases(  # noqa: N802
        self, request: ReleasesRequest, context: Any
    ) -> AsyncIterator[Release]:
        if request.method != "tiny":
            await context.abort(StatusCode.NOT_FOUND, "There is no such method.")
        if "x509_pem_cert" in context.auth_context():
            demand(context.auth_context(), Role.DEVICE)
        yield Release(method=request.method, bundle_id="good")


async def up(address: str, identity: ProcessIdentity | None = None) -> tuple[str, aio.Server]:
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    add_CollaborationServicer_to_server(Announcing(), server)
    bound = bind(server, address, identity)
    await server.start()
    return bound, server


async def test_a_cloud_that_is_down_is_asked_what_it_announces_once_it_is_back() -> None:
    address, first = await up("127.0.0.1:0")
    await first.stop(None)

    asking = asyncio.create_task(announced(address, None, "tiny"))
    await asyncio.sleep(0.3)
    _, second = await up(address)

    assert await asyncio.wait_for(asking, 10) == "good"
    await second.stop(None)


async def test_over_tls_a_cloud_is_asked_with_a_device_s_certificate(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    for role in (Role.CLOUD, Role.DEVICE):
        authority.add(role, role)
    address, server = await up("127.0.0.1:0", authority.identity("cloud"))

    assert await announced(address, authority.identity("device"), "tiny") == "good"

    await server.stop(None)


async def test_a_cloud_that_stays_away_or_does_not_tell_fails_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, server = await up("127.0.0.1:0")

    with pytest.raises(RunFailed, match="does not tell: There is no such method"):
        await announced(address, None, "other")
    await server.stop(None)
    monkeypatch.setattr(keeper_module, "_READY_S", 0.3)
    with pytest.raises(RunFailed, match="announces nothing"):
        await announced(address, None, "tiny")
