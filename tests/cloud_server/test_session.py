"""The conversation of a device with its cloud, over a real connection."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from protos.v1 import tensor_pb2
from protos.v1.collaboration_pb2 import GroupRequest, Hello, Rank, Refresh, Upload
from shared_models.contract.bundle import Bundle
from shared_models.contract.overlay import overlay_from_proto
from shared_models.contract.tensors import Codec, tensor_from_proto, tensor_to_proto
from shared_models.method import Personalization, ScorerExport, Uplinks
from tests.cloud_server.conftest import (
    ITEMS,
    SLOTS,
    UPLINK,
    WINDOW,
    Cloud,
    Device,
    OpenCloud,
    Queued,
    SilentMethod,
    TinyMethod,
    make_bundle,
    release,
)


async def test_a_session_opens_with_a_hello(cloud: Cloud, bundle: Bundle) -> None:
    device = cloud.device()

    early = await device.ask(refresh=Refresh(items=[1]))
    hello = await device.hello(bundle)
    later = await device.ask(refresh=Refresh(items=[1]))

    assert (early.fault.code, early.WhichOneof("body")) == ("bad-ask", None)
    assert hello.welcome.events_stored == 0
    assert later.WhichOneof("body") == "overlay"
    await device.leave()


async def test_a_refresh_returns_the_slots_that_the_method_wrote(
    cloud: Cloud, bundle: Bundle, method: TinyMethod, network: Any
) -> None:
    device = cloud.device()
    await device.hello(bundle)

    answer = await device.ask(refresh=Refresh(items=[4, 9], events_seen=12))

    uplink = np.zeros((1, UPLINK), np.int64)
    uplink[0, :2] = [4, 9]
    expected = method.personalize(network, Uplinks(uplink)).slots
    overlay = overlay_from_proto(answer.overlay, bundle.id, 12)
    overlay.check(bundle.manifest.slots)
    assert set(overlay.slots) == set(SLOTS)
    for name, values in overlay.slots.items():
        np.testing.assert_allclose(values, expected[name][0], atol=1e-3)
    assert {slot.codec for slot in answer.overlay.slots} == {tensor_pb2.CODEC_F16}


async def test_the_codec_of_overlays_is_a_setting(open_cloud: OpenCloud, bundle: Bundle) -> None:
    async with open_cloud(codec="f32") as cloud:
        device = cloud.device()
        await device.hello(bundle)

        answer = await device.ask(refresh=Refresh(items=[4]))

    assert {slot.codec for slot in answer.overlay.slots} == {tensor_pb2.CODEC_F32}


async def test_the_newest_items_of_an_uplink_count_and_unknown_ones_are_padding(
    cloud: Cloud, bundle: Bundle, method: TinyMethod
) -> None:
    device = cloud.device()
    await device.hello(bundle)

    await device.ask(refresh=Refresh(items=[1, 2, 3, 4, 999, 6, 7, 8, 50]))

    assert method.asked[0].tolist()[0] == [3, 4, 0, 6, 7, 8, 50]


async def test_rank_returns_a_float32_score_for_each_candidate(
    cloud: Cloud, bundle: Bundle, method: TinyMethod, network: Any
) -> None:
    device = cloud.device()
    await device.hello(bundle)

    answer = await device.ask(rank=Rank(items=[1, 2], candidates=[7, 8, 9]))

    windows, candidates = np.zeros((8, WINDOW), np.int64), np.zeros((8, 3), np.int64)
    windows[0, :2], candidates[0] = [1, 2], [7, 8, 9]
    expected = method.rank(network, windows, candidates)[0]
    assert answer.scores.values.codec == tensor_pb2.CODEC_F16
    np.testing.assert_allclose(tensor_from_proto(answer.scores.values), expected, rtol=1e-3)


async def test_the_best_of_the_catalogue_are_retrieved(
    cloud: Cloud, bundle: Bundle, method: TinyMethod, network: Any
) -> None:
    device = cloud.device()
    await device.hello(bundle)

    answer = await device.ask(rank=Rank(items=[1, 2], retrieve=7))

    windows = np.zeros((8, WINDOW), np.int64)
    windows[0, :2] = [1, 2]
    catalogue = np.tile(np.arange(1, ITEMS + 1), (8, 1))
    expected = method.rank(network, windows, catalogue)[0]
    best = np.argsort(-expected, kind="stable")[:7]
    assert list(answer.scores.items) == (best + 1).tolist()
    np.testing.assert_allclose(tensor_from_proto(answer.scores.values), expected[best], rtol=1e-3)


async def test_rank_asks_of_different_lengths_get_their_own_scores(
    cloud: Cloud, bundle: Bundle
) -> None:
    async def scores(count: int) -> list[float]:
        device = cloud.device()
        await device.hello(bundle, user=count, waits=True)
        ask = Rank(items=[count], candidates=range(1, count + 1))
        answer = await device.ask(rank=ask)
        return list(tensor_from_proto(answer.scores.values))

    alone = [await scores(count) for count in (3, 5, 3, 1)]
    together = await asyncio.gather(*(scores(count) for count in (3, 5, 3, 1)))

    assert [len(row) for row in together] == [3, 5, 3, 1]
    assert together == alone


@pytest.mark.parametrize("together", [1, 3, 8, 9, 40, 61, 64])
async def test_an_overlay_is_the_same_to_the_last_bit_whatever_shares_its_batch(
    open_cloud: OpenCloud, bundle: Bundle, method: TinyMethod, queued: Queued, together: int
) -> None:
    async def overlay(device: Device, user: int) -> bytes:
        answer = await device.ask(refresh=Refresh(items=[user % 50 + 1, user % 7]))
        return answer.overlay.SerializeToString()

    async with open_cloud(codec="f32") as cloud:
        blocker, *devices = [cloud.device() for _ in range(together + 1)]
        for user, device in enumerate([blocker, *devices]):
            await device.hello(bundle, user=user, waits=True)
        alone = [await overlay(device, user) for user, device in enumerate(devices)]
        method.asked.clear()
        method.gate.clear()
        blocked = asyncio.create_task(overlay(blocker, 0))
        while not method.asked:
            await asyncio.sleep(0.001)
        asked = [asyncio.create_task(overlay(device, user)) for user, device in enumerate(devices)]
        await queued(together)
        method.gate.set()

        crowd = await asyncio.gather(*asked)

        await blocked
    assert len(method.asked[1]) >= together, "they did not share one batch"
    assert crowd == alone


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"refresh": Refresh(items=range(101))}, "101 entries"),
        ({"rank": Rank(items=[1], candidates=range(101))}, "101 entries"),
        ({"rank": Rank(items=[1])}, "name candidates"),
        ({"upload": Upload(items=[1, 2], times=[1.0])}, "2 items came with 1 times"),
        ({"upload": Upload(items=[0], times=[1.0])}, "an event needs an item"),
        ({"upload": Upload(items=[1], times=[float("nan")])}, "a finite time"),
        ({"upload": Upload(first=1, items=[1], times=[1.0])}, "events start at 1, 0 are stored"),
        ({"upload": Upload(first=2**64 - 1, items=[1], times=[1.0])}, "0 are stored"),
        ({}, "the ask is empty"),
    ],
)
async def test_a_bad_ask_is_answered_and_the_session_lives_on(
    open_cloud: OpenCloud, bundle: Bundle, body: dict[str, Any], words: str
) -> None:
    async with open_cloud(largest_list=100) as cloud:
        device = cloud.device()
        await device.hello(bundle)

        bad = await device.ask(**body)
        good = await device.ask(refresh=Refresh(items=[1]))

    assert (bad.fault.code, bad.WhichOneof("body")) == ("bad-ask", None)
    assert words in bad.fault.message
    assert not good.HasField("fault")
    assert good.overlay.slots


@pytest.mark.parametrize("bundle_id", ["", "models", "../bundles", "0" * 64, "x" * 10_000])
async def test_an_unknown_bundle_is_a_fault_that_says_what_to_do(
    cloud: Cloud, bundle_id: str
) -> None:
    answer = await cloud.device().ask(hello=Hello(user=1, bundle_id=bundle_id))

    assert answer.fault.code == "unknown-bundle"
    assert answer.fault.message == "There is no such bundle: fetch the released one."


async def test_a_failed_hello_leaves_the_session_as_it_was(cloud: Cloud, bundle: Bundle) -> None:
    device = cloud.device()
    await device.hello(bundle)

    refused = await device.ask(hello=Hello(user=1, bundle_id="gone"))
    answer = await device.ask(refresh=Refresh(items=[1]))

    assert refused.fault.code == "unknown-bundle"
    assert answer.overlay.slots


@pytest.mark.parametrize(
    "body", [{"refresh": Refresh(items=[1])}, {"rank": Rank(items=[1], candidates=[2])}]
)
async def test_what_the_method_does_not_offer_is_a_bad_ask(
    open_cloud: OpenCloud, bundle: Bundle, load_tiny: Callable[[Any], None], body: dict[str, Any]
) -> None:
    load_tiny(SilentMethod())
    async with open_cloud() as cloud:
        device = cloud.device()
        await device.hello(bundle)

        answer = await device.ask(**body)

    assert answer.fault.code == "bad-ask"
    assert "the method of this bundle" in answer.fault.message


async def test_uploads_are_stored_once_and_known_to_the_next_session(
    open_cloud: OpenCloud, bundle: Bundle
) -> None:
    upload = Upload(first=0, items=[3, 4, 5], times=[1.0, 2.0, 3.0])
    async with open_cloud() as cloud:
        device = cloud.device()
        await device.hello(bundle, user=9)
        stored = [await device.ask(upload=upload) for _ in range(2)]

    async with open_cloud() as cloud:
        welcome = await cloud.device().hello(bundle, user=9)

    assert [answer.stored.events_stored for answer in stored] == [3, 3]
    assert welcome.welcome.events_stored == 3


async def test_what_a_former_life_of_a_device_still_brings_takes_no_numbers_from_the_next_one(
    cloud: Cloud, bundle: Bundle
) -> None:
    former, present = cloud.device(), cloud.device()
    await former.hello(bundle)
    await former.ask(upload=Upload(first=0, items=[1], times=[1.0]))
    assert (await present.hello(bundle)).welcome.events_stored == 1

    late = await former.ask(upload=Upload(first=1, items=[2, 3], times=[2.0, 3.0]))
    own = await present.ask(upload=Upload(first=1, items=[7, 8], times=[4.0, 5.0]))

    assert late.fault.code == "bad-ask"
    assert "newer session" in late.fault.message
    assert own.stored.events_stored == 3
    assert (await cloud.device().hello(bundle)).welcome.events_stored == 3


async def test_a_session_that_ends_leaves_the_turn_to_the_one_that_is_open(
    cloud: Cloud, bundle: Bundle
) -> None:
    former, present = cloud.device(), cloud.device()
    await former.hello(bundle)
    await present.hello(bundle)
    await former.leave()

    answer = await present.ask(upload=Upload(first=0, items=[7], times=[4.0]))

    assert answer.stored.events_stored == 1


async def test_only_a_cloud_that_takes_part_in_a_replay_believes_that_there_is_one(
    open_cloud: OpenCloud, bundle: Bundle
) -> None:
    async with open_cloud(replays=False) as cloud:
        device = cloud.device()
        welcome = await device.hello(bundle, waits=True)
        answer = await device.ask(refresh=Refresh(items=[1]), round=2**31)

    assert welcome.fault.code == "access-refused"
    assert answer.fault.message == "a session opens with a hello"


async def test_uploads_need_the_manifest_s_leave(open_cloud: OpenCloud, root: Path) -> None:
    private = release(root, make_bundle(uploads=False))
    async with open_cloud() as cloud:
        device = cloud.device()
        await device.hello(private)

        answer = await device.ask(upload=Upload(items=[1], times=[1.0]))

    assert (answer.fault.code, answer.fault.message) == (
        "bad-ask",
        "this bundle allows no uploads",
    )


async def test_a_bundle_that_asks_for_nothing_is_served_all_the_same(
    open_cloud: OpenCloud, root: Path
) -> None:
    independent = release(root, make_bundle(uplink=None))
    async with open_cloud() as cloud:
        device = cloud.device()
        welcome = await device.hello(independent)

        answer = await device.ask(refresh=Refresh(items=[1]))

    assert not welcome.HasField("fault")
    assert answer.fault.message == "the method of this bundle writes no slots"


async def test_a_busy_cloud_sheds_devices_and_lets_replays_wait(
    open_cloud: OpenCloud, bundle: Bundle, method: TinyMethod, queued: Queued
) -> None:
    async with open_cloud(room=1, largest_batch=1) as cloud:
        hurried, patient = cloud.device(), [cloud.device() for _ in range(4)]
        await hurried.hello(bundle)
        for device in patient:
            await device.hello(bundle, waits=True)
        method.gate.clear()
        waiting = [asyncio.create_task(d.ask(refresh=Refresh(items=[1]))) for d in patient]
        await queued(1)

        shed = await hurried.ask(refresh=Refresh(items=[1]))
        method.gate.set()
        answers = await asyncio.wait_for(asyncio.gather(*waiting), 10)

    assert shed.fault.code == "overloaded"
    assert shed.fault.retry_after_ms >= 1
    assert all(answer.overlay.slots for answer in answers)


async def test_an_ask_that_waited_too_long_is_dropped_but_a_replay_s_never_is(
    open_cloud: OpenCloud, bundle: Bundle, method: TinyMethod, queued: Queued
) -> None:
    async with open_cloud(patience_s=0.05, largest_batch=1) as cloud:
        first, hurried, patient = (cloud.device() for _ in range(3))
        await first.hello(bundle, waits=True)
        await hurried.hello(bundle)
        await patient.hello(bundle, waits=True)
        method.gate.clear()
        asks = [asyncio.create_task(first.ask(refresh=Refresh(items=[1])))]
        while not method.asked:
            await asyncio.sleep(0.001)
        asks += [
            asyncio.create_task(device.ask(refresh=Refresh(items=[1])))
            for device in (hurried, patient)
        ]
        await queued(2)
        await asyncio.sleep(0.1)  # longer than its patience

        method.gate.set()
        served, dropped, waited = await asyncio.wait_for(asyncio.gather(*asks), 10)

    assert dropped.fault.code == "cloud-unavailable"
    assert served.overlay.slots
    assert waited.overlay.slots
    assert len(method.asked) == 2


VECTOR, WIDTH = "vector", 3
PORTS = {"file": "scorer.onnx", "inputs": [], "outputs": []}
GROUPED: dict[str, Any] = {
    "slots": [{"name": "head.bias", "shape": [6]}],
    "uploads": False,
    "uplink": {"items": UPLINK, "outputs": [VECTOR]},
    "groups": {"count": 2, "slots": ["head.bias"]},
    "graphs": {
        "scorer": PORTS,
        "encoder": {**PORTS, "outputs": [{"name": VECTOR, "shape": ["batch", WIDTH]}]},
    },
}
PENDING = {"uplink": {"items": UPLINK, "pending": True}}


class GroupingMethod:
    """Sorts users into two groups by the sign of what they send."""

    name = "grouping"

    def personalize(self, _: Any, uplinks: Uplinks) -> Personalization:
        groups_B = 1 + (uplinks.outputs[VECTOR].sum(1) > 0)
        return Personalization({}, groups_B=groups_B.astype(np.int64))

    def export(self, network: Any) -> ScorerExport:
        heads = [{"head.bias": torch.full((6,), float(number))} for number in (1, 2)]
        return ScorerExport(network, groups=heads)


@pytest.fixture
def grouped(root: Path, load_tiny: Callable[[Any], None]) -> Bundle:
    load_tiny(GroupingMethod())
    return release(root, make_bundle("grouping", **GROUPED))


def sent(*values: float, name: str = VECTOR) -> tensor_pb2.Tensor:
    return tensor_to_proto(name, np.array(values, np.float32), Codec.F16)


async def test_a_refresh_names_the_group_and_an_ask_brings_what_it_shares(
    open_cloud: OpenCloud, grouped: Bundle
) -> None:
    async with open_cloud() as cloud:
        device = cloud.device()
        await device.hello(grouped)

        answers = [
            await device.ask(refresh=Refresh(outputs=[sent(*[sign] * WIDTH)])) for sign in (-1, 1)
        ]
        shared = await device.ask(group=GroupRequest(number=2))

    assert [answer.overlay.group for answer in answers] == [1, 2]
    (slot,) = shared.overlay.slots
    assert (slot.name, tensor_from_proto(slot).tolist()) == ("head.bias", [2.0] * 6)


@pytest.mark.parametrize("number", [0, 3, 4711])
async def test_an_unknown_group_is_a_bad_ask_and_the_session_lives_on(
    open_cloud: OpenCloud, grouped: Bundle, number: int
) -> None:
    async with open_cloud() as cloud:
        device = cloud.device()
        await device.hello(grouped)

        bad = await device.ask(group=GroupRequest(number=number))
        good = await device.ask(group=GroupRequest(number=1))

    assert (bad.fault.code, bad.WhichOneof("body")) == ("bad-ask", None)
    assert "this bundle has 2 groups" in bad.fault.message
    assert good.overlay.slots


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [sent(1, 2)],
        [sent(1, 2, 3, 4)],
        [sent(1, 2, 3, name="other")],
        [sent(1, 2, 3), sent(1, 2, 3, name="other")],
        [sent(1, float("nan"), 3)],
        [sent(1, float("inf"), 3)],
        [tensor_pb2.Tensor(name=VECTOR, shape=[WIDTH], codec=tensor_pb2.CODEC_F16, data=b"12")],
        [tensor_pb2.Tensor(name=VECTOR, shape=[WIDTH], data=b"123456")],
    ],
    ids=["none", "narrow", "wide", "other", "both", "nan", "inf", "short", "codec"],
)
async def test_outputs_that_are_not_the_encoder_s_are_a_bad_ask_and_the_session_lives_on(
    open_cloud: OpenCloud, grouped: Bundle, outputs: list[tensor_pb2.Tensor]
) -> None:
    async with open_cloud() as cloud:
        device = cloud.device()
        await device.hello(grouped)

        bad = await device.ask(refresh=Refresh(outputs=outputs))
        good = await device.ask(refresh=Refresh(outputs=[sent(1, 2, 3)]))

    assert (bad.fault.code, bad.WhichOneof("body")) == ("bad-ask", None)
    assert good.overlay.group == 2


async def test_a_refresh_stores_what_is_pending_once_and_reads_the_whole_history(
    open_cloud: OpenCloud, root: Path, load_tiny: object, method: TinyMethod
) -> None:
    bundle = release(root, make_bundle(**PENDING))
    async with open_cloud() as cloud:
        device = cloud.device()
        await device.hello(bundle)

        first = Upload(first=0, items=[3, 4], times=[1.0, 2.0])
        more = Upload(first=1, items=[4, 999, 6], times=[2.0, 3.0, 4.0])
        answers = [await device.ask(refresh=Refresh(pending=each)) for each in (first, first, more)]

    assert [answer.overlay.events_stored for answer in answers] == [2, 2, 4]
    read = [windows[0].tolist() for windows in method.asked]
    assert read == [[3, 4, 0, 0, 0, 0, 0]] * 2 + [[3, 4, 0, 6, 0, 0, 0]]


@pytest.mark.parametrize(
    ("pending", "words"),
    [
        (Upload(first=5, items=[1], times=[1.0]), "0 are stored"),
        (Upload(items=[1, 2], times=[1.0]), "2 items came with 1 times"),
        (Upload(items=range(1, 102), times=[1.0] * 101), "101 entries"),
    ],
)
async def test_pending_events_that_leave_a_gap_or_make_no_sense_are_a_bad_ask(
    open_cloud: OpenCloud, root: Path, load_tiny: object, pending: Upload, words: str
) -> None:
    bundle = release(root, make_bundle(**PENDING))
    async with open_cloud(largest_list=100) as cloud:
        device = cloud.device()
        await device.hello(bundle)

        bad = await device.ask(refresh=Refresh(pending=pending))
        good = await device.ask(refresh=Refresh(pending=Upload(items=[1], times=[1.0])))

    assert bad.fault.code == "bad-ask"
    assert words in bad.fault.message
    assert good.overlay.events_stored == 1


async def test_a_refresh_brings_no_events_where_the_bundle_allows_no_uploads(
    open_cloud: OpenCloud, grouped: Bundle
) -> None:
    async with open_cloud() as cloud:
        device = cloud.device()
        await device.hello(grouped)

        pending = Upload(items=[1], times=[1.0])
        answer = await device.ask(refresh=Refresh(outputs=[sent(1, 2, 3)], pending=pending))
        welcome = await cloud.device().hello(grouped)

    assert answer.fault.message == "this bundle allows no uploads"
    assert welcome.welcome.events_stored == 0


class SharingMethod:
    """Tells each user the sum of what the neighbours last sent."""

    name = "sharing"
    config = SimpleNamespace(uplink=None, history=UPLINK)

    def personalize(self, _: Any, uplinks: Uplinks) -> Personalization:
        assert uplinks.others_BWD is not None
        heard_BD = uplinks.others_BWD.sum(1)
        return Personalization({VECTOR: heard_BD}, uplinks.outputs[VECTOR])


def sharing_bundle(root: Path) -> Bundle:
    """A bundle of two users who are each other's neighbours."""
    sharing = {
        **GROUPED,
        "slots": [{"name": VECTOR, "shape": [WIDTH]}],
        "groups": None,
        "memory": {"name": VECTOR, "width": WIDTH},
        "neighbours": 1,
    }
    bundle = release(root, make_bundle("sharing", **sharing))
    folder = root / "models" / bundle.id
    np.save(folder / "neighbours.npy", np.array([[1], [0]]), allow_pickle=False)
    schema = {"user": pl.Int32, "seq": pl.Int32, "item": pl.Int32, "at": pl.Float64}
    pl.DataFrame(schema=schema).write_parquet(folder / "history.parquet")
    return bundle


async def test_what_a_late_session_says_does_not_replace_what_a_newer_one_said(
    open_cloud: OpenCloud, root: Path, load_tiny: Callable[[Any], None]
) -> None:
    load_tiny(SharingMethod())
    bundle = sharing_bundle(root)
    async with open_cloud() as cloud:
        former, present, other = (cloud.device() for _ in range(3))
        for device, user in ((former, 0), (present, 0), (other, 1)):
            await device.hello(bundle, user=user)
        await present.ask(refresh=Refresh(outputs=[sent(*[2] * WIDTH)]))

        late = await former.ask(refresh=Refresh(outputs=[sent(*[1] * WIDTH)]))
        (heard,) = (await other.ask(refresh=Refresh(outputs=[sent(*[5] * WIDTH)]))).overlay.slots

    assert "newer session" in late.fault.message
    assert tensor_from_proto(heard)[0] == 2


@pytest.mark.parametrize(
    ("replayed", "expected"), [(True, [0, 0, 10, 1, 20, 2]), (False, [0, 1, 10, 2, 20, 3])]
)
async def test_neighbours_hear_of_each_other_in_the_next_round_of_a_replay_and_else_at_once(
    open_cloud: OpenCloud,
    root: Path,
    load_tiny: Callable[[Any], None],
    replayed: bool,
    expected: list[int],
) -> None:
    load_tiny(SharingMethod())
    bundle, heard = sharing_bundle(root), []

    async with open_cloud() as cloud:
        one, other = cloud.device(), cloud.device()
        await one.hello(bundle, user=0, waits=replayed)
        await other.hello(bundle, user=1, waits=replayed)
        for round_ in (1, 2, 3):
            for device, value in ((one, round_), (other, 10 * round_)):
                refresh = Refresh(outputs=[sent(*[value] * WIDTH)])
                answer = await device.ask(round=round_, refresh=refresh)
                (slot,) = answer.overlay.slots
                heard.append(float(tensor_from_proto(slot)[0]))

    assert heard == expected


async def test_who_says_what_the_user_is_like_is_ranked_by_it(
    open_cloud: OpenCloud, root: Path, method: TinyMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = {"values": 9, "most": 3}
    bundle = make_bundle(features={"items": ITEMS, "window": WINDOW, "profile": profile})
    release(root, bundle)
    seen: list[np.ndarray] = []
    plain = TinyMethod.rank

    def rank(self: TinyMethod, *args: Any) -> Any:
        seen.append(args[3])
        return plain(self, *args[:3])

    monkeypatch.setattr(TinyMethod, "rank", rank)
    async with open_cloud() as cloud:
        device = cloud.device()
        await device.ask(hello=Hello(user=1, bundle_id=bundle.id, profile=[4, 99, 2]))
        await device.ask(rank=Rank(items=[1], candidates=[2, 3]))

    assert seen[0][0].tolist() == [4, 0, 2]
    assert method.asked
