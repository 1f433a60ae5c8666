"""Who may call what of a cloud under mutual TLS, and whose state a session reads and writes."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cloud_server.events import EventJournal
from cloud_server.server import listening
from cloud_server.settings import ServeSettings
from protos.v1.collaboration_pb2 import (
    Ask,
    BundleRequest,
    Contribute,
    GroupRequest,
    Hello,
    Rank,
    Refresh,
    ReleasesRequest,
    Upload,
)
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import BadSetting, PathMissing
from shared_models.contract.security import Role
from tests.cloud_server.conftest import Cloud, Device
from tests.identities import HANDSHAKE, Authority, Visitors, settled

USER, OTHER = 7, 8
ASKS: dict[str, dict[str, Any]] = {
    "refresh": {"refresh": Refresh(items=[1])},
    "group": {"group": GroupRequest(number=1)},
    "rank": {"rank": Rank(items=[1], candidates=[2, 3])},
    "upload": {"upload": Upload(first=0, items=[4], times=[1.0])},
    "contribute": {"contribute": Contribute(examples=1)},
}
NOT_OPEN = "a session opens with a hello"
Secure = Callable[[str], Any]


@pytest.fixture
async def served(
    root: Path, load_tiny: object, bundle: Bundle, visitors: Visitors, tmp_path: Path
) -> AsyncIterator[str]:
    """Address of a cloud with an identity."""
    async with opened(root, visitors.authority.folder / "cloud") as address:
        yield address


@asynccontextmanager
async def opened(root: Path, identity: Path) -> AsyncIterator[str]:
    settings = ServeSettings(
        bundles=root, listen="127.0.0.1:0", device="cpu", identity=identity, release_poll_s=0.05
    )
    async with listening(settings) as address:
        yield address


@pytest.fixture
def meet(served: str, visitors: Visitors) -> Secure:
    """The cloud as somebody of the visitors meets it."""

    @asynccontextmanager
    async def met(who: str) -> AsyncIterator[Cloud]:
        async with visitors.dial(served, who) as channel:
            yield Cloud.dial(served, channel)

    return met


async def session(cloud: Cloud, bundle: Bundle) -> object:
    """A session's first words: raises the status that ended it, whichever step tells it."""

    async def ended() -> StatusCode:
        call = cloud.stub.Session(timeout=20)
        with suppress(asyncio.InvalidStateError, aio.AioRpcError):
            await call.write(Ask(seq=1, hello=Hello(user=USER, bundle_id=bundle.id)))
            if (answer := await call.read()) is not aio.EOF:
                answers.append(answer)
                return StatusCode.OK
        return await call.code()

    answers: list[object] = []
    code = await settled(ended)
    if answers:
        return answers[0]
    raise aio.AioRpcError(code, aio.Metadata(), aio.Metadata())


async def fetch(cloud: Cloud, bundle: Bundle) -> object:
    return await anext(aiter(cloud.stub.FetchBundle(BundleRequest(id=bundle.id), timeout=20)))


async def watch(cloud: Cloud, _: Bundle) -> object:
    return await anext(aiter(cloud.stub.WatchReleases(ReleasesRequest(), timeout=20)))


async def check(cloud: Cloud, _: Bundle) -> object:
    stub: Any = health_pb2_grpc.HealthStub(cloud.channel)
    return await stub.Check(health_pb2.HealthCheckRequest(), timeout=20)


async def watch_health(cloud: Cloud, _: Bundle) -> object:
    stub: Any = health_pb2_grpc.HealthStub(cloud.channel)
    return await anext(aiter(stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)))


async def reflect(cloud: Cloud, _: Bundle) -> object:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(cloud.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    call = stub.ServerReflectionInfo(iter([request]), timeout=20)
    return await anext(aiter(call))


Call = Callable[[Cloud, Bundle], Coroutine[Any, Any, object]]
OF_DEVICES = (session, fetch, watch)
OF_ALL = (check, watch_health, reflect)


async def status_of(call: Call, cloud: Cloud, bundle: Bundle) -> StatusCode:
    async def ended() -> StatusCode:
        try:
            await call(cloud, bundle)
        except aio.AioRpcError as error:
            return error.code()
        return StatusCode.OK

    return await settled(ended)


@pytest.mark.parametrize("call", [*OF_DEVICES, *OF_ALL], ids=lambda call: call.__name__)
@pytest.mark.parametrize("who", HANDSHAKE)
async def test_who_has_no_good_certificate_of_this_ca_gets_no_connection(
    meet: Secure, bundle: Bundle, who: str, call: Call
) -> None:
    async with meet(who) as cloud:
        assert await status_of(call, cloud, bundle) is StatusCode.UNAVAILABLE


@pytest.mark.parametrize("call", [*OF_DEVICES, *OF_ALL], ids=lambda call: call.__name__)
async def test_a_revoked_certificate_may_call_nothing(
    meet: Secure, bundle: Bundle, call: Call
) -> None:
    async with meet("revoked") as cloud:
        assert await status_of(call, cloud, bundle) is StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("call", OF_DEVICES, ids=lambda call: call.__name__)
@pytest.mark.parametrize("who", ["cloud", "simulator"])
async def test_what_is_for_devices_is_for_nobody_else(
    meet: Secure, bundle: Bundle, who: str, call: Call
) -> None:
    async with meet(who) as cloud:
        assert await status_of(call, cloud, bundle) is StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("call", [*OF_DEVICES, *OF_ALL], ids=lambda call: call.__name__)
async def test_a_device_may_call_what_is_for_devices_and_what_is_for_all(
    meet: Secure, bundle: Bundle, call: Call
) -> None:
    async with meet("device") as cloud:
        assert await status_of(call, cloud, bundle) is StatusCode.OK


@pytest.mark.parametrize("call", OF_ALL, ids=lambda call: call.__name__)
@pytest.mark.parametrize("who", ["cloud", "simulator"])
async def test_everybody_with_a_certificate_may_probe_health(
    meet: Secure, bundle: Bundle, who: str, call: Call
) -> None:
    async with meet(who) as cloud:
        assert await status_of(call, cloud, bundle) is StatusCode.OK


@pytest.mark.parametrize("kind", ASKS)
async def test_a_device_with_a_token_of_its_user_may_ask_anything(
    meet: Secure, bundle: Bundle, visitors: Visitors, kind: str
) -> None:
    async with meet("device") as cloud:
        device = cloud.device()
        await greet(device, bundle, USER, visitors.token(USER))

        answer = await device.ask(**ASKS[kind])

        assert answer.fault.message != NOT_OPEN
        assert answer.fault.code in ("", "bad-ask")


TOKENS: dict[str, Callable[[Visitors], str]] = {
    "no token": lambda _: "",
    "no token at all": lambda _: "ey.ey.ey",
    "a token of another user": lambda visitors: visitors.token(OTHER),
    "a token captured from another device": lambda visitors: visitors.token(USER, "other-device"),
    "an expired token": lambda visitors: visitors.token(USER, seconds_ago=901),
    "a token of a foreign issuer": lambda visitors: visitors.foreign.issuer().token(
        USER, visitors.thumbprint("device")
    ),
}


@pytest.mark.parametrize("kind", ASKS)
@pytest.mark.parametrize("token", TOKENS)
async def test_without_a_good_token_a_session_reads_and_writes_nothing(
    meet: Secure, bundle: Bundle, visitors: Visitors, root: Path, token: str, kind: str
) -> None:
    async with meet("device") as cloud:
        device = cloud.device()

        refused = await greet(device, bundle, USER, TOKENS[token](visitors))
        answer = await device.ask(**ASKS[kind])

    assert refused.fault.code == "token-refused"
    assert (answer.fault.code, answer.fault.message) == ("bad-ask", NOT_OPEN)
    assert answer.WhichOneof("body") is None
    assert list(EventJournal(root / "journal.sqlite")) == []


async def test_captured_bytes_of_a_session_are_of_no_use_with_another_certificate(
    meet: Secure, bundle: Bundle, visitors: Visitors, root: Path
) -> None:
    captured = [
        Ask(seq=1, hello=Hello(user=USER, bundle_id=bundle.id, token=visitors.token(USER))),
        Ask(seq=2, **ASKS["upload"]),
    ]
    async with meet("other-device") as cloud:
        call = cloud.stub.Session(timeout=20)
        for ask in captured:
            await call.write(ask)
        faults = [(await call.read()).fault.code for _ in captured]

    assert faults == ["token-refused", "bad-ask"]
    assert list(EventJournal(root / "journal.sqlite")) == []


async def test_a_session_stays_its_users_whatever_a_second_hello_says(
    meet: Secure, bundle: Bundle, visitors: Visitors, root: Path
) -> None:
    async with meet("device") as cloud:
        device = cloud.device()
        await greet(device, bundle, USER, visitors.token(USER))

        again = await greet(device, bundle, USER, visitors.token(USER))
        other = await greet(device, bundle, OTHER, visitors.token(OTHER))
        stored = await device.ask(**ASKS["upload"])

    assert not again.HasField("fault")
    assert other.fault.code == "access-refused"
    assert stored.stored.events_stored == 1
    assert [entry.user for entry in EventJournal(root / "journal.sqlite")] == [USER]


async def test_a_session_in_clear_is_one_users_too(cloud: Cloud, bundle: Bundle) -> None:
    device = cloud.device()
    await device.hello(bundle, user=USER)

    other = await device.hello(bundle, user=OTHER)

    assert other.fault.code == "access-refused"
    await device.leave()


def test_no_ask_but_the_hello_names_a_user() -> None:
    def named(message: Descriptor) -> set[str]:
        found = {message.full_name for field in message.fields if "user" in field.name}
        nested = [field.message_type for field in message.fields if field.message_type]
        return found.union(*map(named, nested))

    assert named(Ask.DESCRIPTOR) == {Hello.DESCRIPTOR.full_name}


async def test_whose_certificate_is_revoked_is_turned_out_within_five_seconds(
    root: Path, load_tiny: object, bundle: Bundle, tmp_path: Path
) -> None:
    authority = Authority.make(tmp_path / "authority")
    for name in ("good", "bad"):
        authority.add(Role.DEVICE, name)
    own = authority.add(Role.CLOUD, "cloud")
    visitors = Visitors(authority, authority)
    async with (
        opened(root, own) as address,
        visitors.dial(address, "good") as good,
        visitors.dial(address, "bad") as bad,
    ):
        bystander, session = Cloud.dial(address, good).device(), Cloud.dial(address, bad).device()
        releases = Cloud.dial(address, bad).stub.WatchReleases(ReleasesRequest())
        await greet(bystander, bundle, USER, visitors.token(USER, "good"))
        await greet(session, bundle, OTHER, visitors.token(OTHER, "bad"))
        await releases.read()

        authority.revoke("bad", own / "crl.pem")

        async with asyncio.timeout(5):
            codes = await session._call.code(), await releases.code()
        fresh = await status_of(fetch, Cloud.dial(address, bad), bundle)
        answer = await bystander.ask(**ASKS["upload"])
    assert codes == (StatusCode.PERMISSION_DENIED, StatusCode.PERMISSION_DENIED)
    assert fresh is StatusCode.PERMISSION_DENIED
    assert answer.stored.events_stored == 1


def serve(root: Path, **settings: Any) -> None:
    async def once() -> None:
        async with listening(ServeSettings(bundles=root, device="cpu", **settings)):
            pass

    asyncio.run(once())


def test_off_loopback_a_cloud_wants_an_identity_or_the_word_plaintext(
    root: Path, load_tiny: object, bundle: Bundle, visitors: Visitors
) -> None:
    everywhere = "0.0.0.0:0"

    with pytest.raises(BadSetting, match=r"--identity DIR.*or say --plaintext"):
        serve(root, listen=everywhere)
    with pytest.raises(BadSetting, match="contradicts --identity"):
        serve(root, listen=everywhere, plaintext=True, identity=visitors.authority.folder / "cloud")
    serve(root, listen=everywhere, plaintext=True)
    serve(root, listen=everywhere, identity=visitors.authority.folder / "cloud")


@pytest.mark.parametrize("name", ["crl.pem", "tokens.pub.pem"])
def test_a_cloud_does_not_start_without_all_of_its_identity(
    root: Path, bundle: Bundle, visitors: Visitors, tmp_path: Path, name: str
) -> None:
    own = tmp_path / "own"
    shutil.copytree(visitors.authority.folder / "cloud", own)

    (own / name).write_text("junk")
    with pytest.raises(BadSetting, match=name):
        serve(root, listen="127.0.0.1:0", identity=own)
    (own / name).unlink()
    with pytest.raises(PathMissing, match=name):
        serve(root, listen="127.0.0.1:0", identity=own)


async def greet(device: Device, bundle: Bundle, user: int, token: str) -> Any:
    return await device.ask(hello=Hello(user=user, bundle_id=bundle.id, token=token))
