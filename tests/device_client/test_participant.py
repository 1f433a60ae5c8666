"""Learning together, as a device does it: what goes up, what it starts from, what it may cost."""

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from device_client.allowance import LearningAllowance
from device_client.client import DeviceClient
from device_client.host import Host
from device_client.lines import Line, answer
from device_client.participant import largest_exchange
from device_client.scorer import Scorer
from device_client.settings import DeviceSettings
from protos.v1.collaboration_pb2 import Answer, Ask
from shared_models.contract.bundle import Bundle
from shared_models.contract.events import Event
from shared_models.contract.federation import (
    Contribution,
    Outcome,
    contribution_to_proto,
    length_of,
    vector_of,
)
from shared_models.contract.manifest import FederationSpec
from shared_models.contract.overlay import Overlay, overlay_to_proto
from shared_models.contract.ranking import Source
from shared_models.contract.tensors import Codec, Float32Array, TensorSpec
from tests.device_client.fakes import (
    ITEMS,
    RECEIPT,
    SLOT,
    WIDTH,
    FakeCloud,
    build_bundle,
    expected_scores,
)
from tests.device_client.learning import build_learning_bundle

CANDIDATES = [3, 7, 9]
EYE = np.eye(WIDTH, dtype=np.float32)
EVERY = 3
COST = RECEIPT.bytes_up + RECEIPT.bytes_down
LARGEST = largest_exchange([TensorSpec(name=SLOT, shape=(WIDTH, WIDTH))])


def together(**federation: Any) -> Bundle:
    spec = FederationSpec(**federation).model_dump()
    rule = {"rule": "every-n", "every": EVERY}
    return build_learning_bundle(federation=spec, manifest={"refresh": rule})


@pytest.fixture
def bundle() -> Bundle:
    return together()


def device_of(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings, user: int = 1, **allowance: int
) -> DeviceClient:
    given = settings.model_copy(update={"learning": LearningAllowance(**allowance)})
    return DeviceClient(user, Scorer(bundle), cloud, given, items=[1, 2])


async def live(device: DeviceClient, *items: int) -> list[Source]:
    """Rank, take an item, learn from it, contribute where that is due; once for each item."""
    sources = []
    for item in items:
        sources.append((await device.rank(CANDIDATES)).source)
        await device.observe(Event(item, 0.0))
        device.learn()
        await device.contribute()
    return sources


def values(device: DeviceClient) -> Float32Array:
    learned = device._learned
    assert learned is not None
    return learned.values.reshape(WIDTH, WIDTH)


def sent(cloud: FakeCloud, which: int = -1) -> Float32Array:
    return cloud.sent[which].deltas[SLOT]


async def test_a_device_contributes_how_far_it_moved_from_where_it_started(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    device = device_of(bundle, cloud, settings)

    await live(device, 4, 5)
    early = len(cloud.sent)
    await live(device, 6)

    assert early == 0
    (contribution,) = cloud.sent
    about = contribution.sequence, contribution.group, contribution.version
    assert about == (0, 0, 0)
    # Windows of 2, 3 and 4 events before the newest one; at most 3 rows a step.
    assert contribution.examples == 2 + 3 + 3
    moved = values(device) - EYE
    steps = np.abs(moved).max(axis=1, keepdims=True) / 127
    assert np.abs(moved).max() > 0.05
    assert (np.abs(sent(cloud) - moved) <= 0.51 * steps).all()


async def test_values_that_are_still_the_newest_do_not_grow_old(settings: DeviceSettings) -> None:
    rule = {"rule": "every-n", "every": 2, "max_age": 3}
    bundle = build_bundle(uplink=None, groups={"count": 1, "slots": (SLOT,)}, refresh=rule)
    cloud = FakeCloud(bundle)
    cloud.version, cloud.shared_head = 4, 2 * EYE
    device = DeviceClient(1, Scorer(bundle), cloud, settings)

    told = []
    for item in range(1, 9):
        ranking = await device.rank(CANDIDATES)
        told.append((ranking.source, ranking.overlay_age))
        await device.observe(Event(item, 0.0))

    assert cloud.had == [None, 4, 4, 4]
    assert told == [(Source.OVERLAY, 0), (Source.OVERLAY, 1)] * 4


async def test_a_device_that_reads_lines_contributes_as_well(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    host = Host(Scorer(bundle), cloud, settings)

    for item in range(4, 4 + EVERY):
        await answer(host, Line(user=1, rank=tuple(CANDIDATES)))
        await answer(host, Line(user=1, observe=item))

    assert [each.sequence for each in cloud.sent] == [0]


async def test_a_device_starts_from_the_newest_values_and_ranks_with_them(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    cloud.version, cloud.shared_head = 4, 2 * EYE
    device = device_of(bundle, cloud, settings)

    first = await device.rank(CANDIDATES)
    sources = await live(device, 4, 5, 6)

    assert first.source is Source.OVERLAY
    np.testing.assert_allclose(first.scores, expected_scores([1, 2], CANDIDATES, 2 * EYE), 1e-5)
    assert sources == [Source.OVERLAY, Source.LEARNED_WEIGHTS, Source.LEARNED_WEIGHTS]
    assert cloud.sent[0].version == 4
    np.testing.assert_allclose(2 * EYE + sent(cloud), values(device), atol=1e-3)


async def test_a_newer_version_is_taken_over_after_the_contribution_and_learning_begins_anew(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    device = device_of(bundle, cloud, settings)
    await live(device, 4, 5, 6)
    cloud.version, cloud.shared_head = 1, 3 * EYE

    ranking = await device.rank(CANDIDATES)
    start = values(device).copy()
    await live(device, 7, 8, 9)

    assert ranking.source is Source.OVERLAY
    np.testing.assert_array_equal(start, 3 * EYE)
    assert [c.version for c in cloud.sent] == [0, 1]
    assert cloud.had == [0, 0]
    np.testing.assert_allclose(3 * EYE + sent(cloud), values(device), atol=1e-3)


async def test_while_no_newer_version_comes_contributions_add_up_to_what_was_learned(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    device = device_of(bundle, cloud, settings)

    await live(device, *range(4, 4 + 4 * EVERY))

    assert [c.sequence for c in cloud.sent] == [0, 1, 2, 3]
    total = sum(contribution.deltas[SLOT] for contribution in cloud.sent)
    # What one rounding lost went up with the next, so four lose no more than one.
    np.testing.assert_allclose(EYE + total, values(device), atol=np.abs(sent(cloud)).max() / 127)


async def test_a_contribution_is_never_longer_than_the_manifest_allows(
    cloud: FakeCloud, settings: DeviceSettings
) -> None:
    bundle = together(norm=0.01)
    cloud.bundle = bundle
    device = device_of(bundle, cloud, settings)

    await live(device, 4, 5, 6)

    assert length_of(vector_of([values(device) - EYE])) > 0.1
    assert length_of(vector_of([sent(cloud)])) == pytest.approx(0.01, rel=1e-5)


async def test_a_lost_acknowledgement_sends_the_same_contribution_again_and_it_counts_once(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    device = device_of(bundle, cloud, settings)
    cloud.lose_acknowledgements = 1

    await live(device, *range(4, 4 + 3 * EVERY))

    assert [c.sequence for c in cloud.sent] == [0, 0, 1]
    assert cloud.sent[0] is cloud.sent[1]
    assert len(cloud.contributions[1]) == 2


async def test_in_an_outage_a_device_goes_on_learning_and_contributes_afterwards(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    device = device_of(bundle, cloud, settings)
    cloud.away = True
    sources = await live(device, 4, 5, 6, 7)

    cloud.away = False
    await live(device, 8, 9, 10)

    assert sources[1:] == [Source.LEARNED_WEIGHTS] * 3
    (contribution,) = cloud.sent
    np.testing.assert_allclose(EYE + contribution.deltas[SLOT], values(device), atol=2e-3)


@pytest.mark.parametrize("outcome", [Outcome.STALE, Outcome.REFUSED])
async def test_what_the_cloud_drops_is_not_sent_again_and_its_number_is_used_for_the_next(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings, outcome: Outcome
) -> None:
    device = device_of(bundle, cloud, settings)
    cloud.outcomes = [outcome]

    await live(device, *range(4, 4 + 2 * EVERY))

    assert [c.sequence for c in cloud.sent] == [0, 0]
    assert not np.array_equal(sent(cloud, 0), sent(cloud, 1))
    assert len(cloud.contributions[1]) == 1


async def test_a_device_that_begins_a_new_life_does_not_take_the_numbers_of_the_former_one(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    await live(device_of(bundle, cloud, settings), 4, 5, 6)

    await live(device_of(bundle, cloud, settings), 7, 8, 9)

    assert [c.sequence for c in cloud.sent] == [0, 1]


async def test_where_nothing_was_learned_nothing_is_contributed(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    await live(device_of(bundle, cloud, settings, steps=0), 4, 5, 6)

    assert cloud.sent == []
    assert cloud.had == [0]


async def test_learning_stops_where_the_allowance_of_steps_ends(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    free, bound = (device_of(bundle, cloud, settings, steps=steps) for steps in (99, 4))

    await live(free, 4, 5, 6, 7, 8, 9)
    await live(bound, 4, 5, 6, 7, 8, 9)

    assert (free.learning_steps, bound.learning_steps) == (6, 4)


async def test_a_round_of_steps_that_does_not_fit_is_not_begun(
    cloud: FakeCloud, settings: DeviceSettings
) -> None:
    bundle = build_learning_bundle(steps=3)
    cloud.bundle = bundle
    device = device_of(bundle, cloud, settings, steps=8)

    await live(device, 4, 5, 6, 7)

    assert device.learning_steps == 6


@pytest.mark.parametrize("exchanges", [0, 1, 2, 5])
async def test_the_allowance_of_bytes_is_never_exceeded(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings, exchanges: int
) -> None:
    most = max(exchanges - 1, 0) * COST + (LARGEST if exchanges else 0)
    device = device_of(bundle, cloud, settings, bytes=most)

    await live(device, *range(1, ITEMS))

    assert len(cloud.sent) + len(cloud.had) == exchanges
    assert device._account.bytes == exchanges * COST <= most
    assert device.learning_steps > 0


@given(st.lists(arrays.array_shapes(max_dims=3, max_side=40), min_size=1, max_size=30))
def test_no_exchange_is_larger_than_what_is_set_aside_for_it(shapes: list[tuple[int, ...]]) -> None:
    slots = {f"adapter.{n}.weight": np.ones(s, np.float32) for n, s in enumerate(shapes)}
    specs = [TensorSpec(name=name, shape=array.shape) for name, array in slots.items()]
    far = 2**63

    contribution = contribution_to_proto(Contribution(far, 2**31, far, 2**31, slots))
    up = Ask(seq=far, at=1e9, round=2**31, contribute=contribution).ByteSize()
    values = overlay_to_proto(Overlay("", 0, slots, 2**31, version=far), Codec.F32)
    down = Answer(seq=far, overlay=values).ByteSize()

    assert max(up, down) + 100 <= largest_exchange(specs)


async def test_an_exchange_that_broke_is_paid_for_as_the_largest_that_it_could_be(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    device = device_of(bundle, cloud, settings)
    await device.rank(CANDIDATES)
    cloud.lose_acknowledgements = 1

    await live(device, 4, 5, 6)

    assert device._account.bytes == COST + LARGEST


async def lived(users: range, scorer: Scorer, settings: DeviceSettings) -> tuple[Host, FakeCloud]:
    """Devices side by side that take turns after each event, and the cloud that they asked."""
    cloud = FakeCloud(together())
    cloud.version, cloud.shared_head = 1, 2 * EYE
    host = Host(scorer, cloud, settings)

    async def live_slowly(user: int) -> None:
        device = host.device(user, [user % ITEMS + 1, 2])
        for item in np.random.default_rng(user).integers(1, ITEMS + 1, 2 * EVERY).tolist():
            await live(device, item)
            await asyncio.sleep(0)

    await host.side_by_side(live_slowly, users)
    return host, cloud


def traces(host: Host, cloud: FakeCloud, user: int) -> list[tuple[int, int, bytes]]:
    """What a device contributed, and where learning has brought it."""
    sent = [(c.sequence, c.examples, c.deltas[SLOT].tobytes()) for c in cloud.contributions[user]]
    return [*sent, (0, 0, values(host.devices[user]).tobytes())]


async def test_sixty_four_devices_learn_together_in_one_process_as_each_would_alone(
    bundle: Bundle, settings: DeviceSettings
) -> None:
    scorer = Scorer(bundle)

    crowd = await lived(range(64), scorer, settings)

    assert len(crowd[0].devices) == 64
    for user in range(64):
        alone = await lived(range(user, user + 1), scorer, settings)
        assert len(traces(*alone, user)) == 3
        assert traces(*alone, user) == traces(*crowd, user)


async def test_what_taking_part_keeps_is_counted_as_state(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    device, vector = device_of(bundle, cloud, settings), 4 * WIDTH * WIDTH
    before = device.state_bytes

    await live(device, 4)
    learning = device.state_bytes
    await live(device, 5, 6)

    # Adam keeps three vectors; from the first contribution on, its end is a fourth one.
    assert (before, learning, device.state_bytes) == (0, 3 * vector, 4 * vector)


async def test_a_device_that_forgets_its_overlay_asks_for_everything_again(
    bundle: Bundle, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    cloud.version = 2
    device = device_of(bundle, cloud, settings)
    await live(device, 4, 5, 6)

    device.forget_overlay()
    await live(device, 7)

    assert cloud.had == [0, 0]


async def test_groups_are_asked_for_before_anything_is_contributed(
    cloud: FakeCloud, settings: DeviceSettings
) -> None:
    spec = FederationSpec().model_dump()
    about = {"refresh": {"rule": "every-n", "every": 1}, "groups": {"count": 2, "slots": [SLOT]}}
    bundle = build_learning_bundle(federation=spec, manifest=about)
    cloud.bundle, cloud.version = bundle, 5
    device = device_of(bundle, cloud, settings)

    await device.observe(Event(4, 0.0))
    device.learn()
    await device.contribute()
    early = list(cloud.sent)
    await live(device, 5)

    assert early == []
    assert cloud.had == [None]
    assert [c.version for c in cloud.sent] == [5]
