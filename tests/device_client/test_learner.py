"""Learning on the device: what is learned from, by which steps, and what ranks afterwards."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import device_client.learner
from device_client.adam import Adam
from device_client.client import DeviceClient
from device_client.cloud import AbsentCloud
from device_client.host import Host
from device_client.lessons import lesson_of
from device_client.scorer import Scorer, activate
from device_client.settings import DeviceSettings
from shared_models.contract.errors import BundleRefused
from shared_models.contract.events import Event
from shared_models.contract.features import FeatureSpec
from shared_models.contract.manifest import LearningSpec
from shared_models.contract.ranking import Decision, Source
from tests.device_client.fakes import ITEMS, SLOT, WIDTH, build_bundle, expected_scores
from tests.device_client.learning import (
    GRAD,
    build_learning_bundle,
    expected_gradient,
    learning_vector,
)

CANDIDATES = [3, 7, 9]
FEATURES = FeatureSpec(items=ITEMS, window=5)
SPEC = LearningSpec(rows=3, negatives=2)
EYE = np.eye(WIDTH, dtype=np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def device_of(
    settings: DeviceSettings, user: int = 1, items: tuple[int, ...] = (), **learning: Any
) -> DeviceClient:
    scorer = Scorer(build_learning_bundle(**learning))
    return DeviceClient(user, scorer, AbsentCloud(), settings, items)


async def live(device: DeviceClient, *items: int) -> None:
    for item in items:
        await device.observe(Event(item, 0.0))
        device.learn()


@given(st.lists(st.integers(1, ITEMS), max_size=12), st.integers(0, 99))
def test_a_lesson_holds_the_newest_events_each_with_what_came_before(
    items: list[int], seed: int
) -> None:
    lesson = lesson_of(items, FEATURES, SPEC, rng(seed))

    if len(items) < 2:
        assert lesson is None
        return
    assert lesson is not None
    taken = lesson["candidate_ids"][:, 0].tolist()
    assert taken == items[max(len(items) - 3, 1) :]
    for row, window in enumerate(lesson["event_ids"].tolist()):
        place = len(items) - len(taken) + row
        before = items[max(place - 5, 0) : place]
        assert window == before + [0] * (5 - len(before))
    assert set(lesson["candidate_ids"][:, 1:].ravel()) <= set(range(1, ITEMS + 1)) - set(items)
    assert lesson["labels"].tolist() == [[1, 0, 0]] * len(taken)
    assert lesson["weights"].tolist() == [1] * len(taken)


def test_negatives_are_drawn_evenly_from_all_that_is_not_remembered() -> None:
    spec = LearningSpec(rows=1, negatives=40_000)

    lesson = lesson_of([2, 3, 19, 20], FEATURES, spec, rng())

    assert lesson is not None
    counts = np.bincount(lesson["candidate_ids"][0, 1:], minlength=ITEMS + 1)
    absent = [item for item in range(1, ITEMS + 1) if item not in (2, 3, 19, 20)]
    assert counts[absent].sum() == 40_000
    assert counts[absent].min() > 0.9 * 40_000 / len(absent)


def test_an_item_that_the_model_does_not_know_weighs_nothing() -> None:
    lesson = lesson_of([4, ITEMS + 7, 5], FEATURES, SPEC, rng())

    assert lesson is not None
    assert lesson["weights"].tolist() == [0, 1]
    assert lesson["event_ids"].tolist() == [[4, 0, 0, 0, 0], [4, 0, 0, 0, 0]]


@pytest.mark.parametrize("items", [[], [4], [4, ITEMS + 7], list(range(1, ITEMS + 1))], ids=len)
def test_where_there_is_nothing_to_learn_from_there_is_no_lesson(items: list[int]) -> None:
    assert lesson_of(items, FEATURES, SPEC, rng()) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_gradient_out_of_bounds_leaves_the_last_good_values(bad: float) -> None:
    adam = Adam(np.ones(3, np.float32))
    adam.step(np.array([1, 2, 3], np.float32), SPEC)
    good = adam.values

    taken = adam.step(np.array([0, bad, 1], np.float32), SPEC)
    adam.step(np.zeros(3, np.float32), SPEC)

    assert not taken
    assert adam.steps == 2
    assert np.isfinite(adam.values).all()
    assert good[0] > adam.values[0] > good[0] - SPEC.rate


def test_a_value_that_never_had_a_gradient_stays_as_it_was() -> None:
    adam = Adam(np.ones(2, np.float32))

    for _ in range(3):
        adam.step(np.array([0, 1], np.float32), SPEC)

    assert adam.values[0] == 1
    assert adam.values[1] < 1


async def test_a_device_ranks_with_what_it_has_learned(settings: DeviceSettings) -> None:
    device = device_of(settings, items=(1, 2))
    before = await device.rank(CANDIDATES)

    await live(device, 4)
    after = await device.rank(CANDIDATES)

    assert (before.source, after.source) == (Source.DEFAULT_WEIGHTS, Source.LEARNED_WEIGHTS)
    assert (after.decision, after.overlay_age) == (Decision.SCORE, None)
    learned = device._learned.overlay.slots[SLOT]
    np.testing.assert_allclose(after.scores, expected_scores([1, 2, 4], CANDIDATES, learned), 1e-5)
    lesson = lesson_of(
        [1, 2, 4], FEATURES, SPEC, np.random.Generator(np.random.Philox(key=[0, (1 << 32) | 3]))
    )
    _, gradient = expected_gradient(lesson, EYE)
    # The first step of Adam goes the whole rate against the gradient's sign.
    np.testing.assert_allclose(learned, EYE - 0.05 * np.sign(gradient), atol=1e-4)


async def test_an_event_is_learned_from_once_however_often_the_app_asks(
    settings: DeviceSettings,
) -> None:
    once, often = (device_of(settings, items=(1, 2)) for _ in range(2))

    await live(once, 4)
    await live(often, 4)
    often.learn()

    ranked = [(await device.rank(CANDIDATES)).scores.tobytes() for device in (once, often)]
    assert ranked[0] == ranked[1]


async def test_a_round_is_due_every_so_many_events(settings: DeviceSettings) -> None:
    device, learned = device_of(settings, every=3), []

    for item in range(1, 8):
        await live(device, item)
        learned.append(device._learned.overlay and device._learned.overlay.events_seen)

    assert learned == [None, None, 3, 3, 3, 6, 6]


async def test_a_round_that_an_app_was_too_busy_for_is_made_up(settings: DeviceSettings) -> None:
    device, learned = device_of(settings, every=3), []

    for item in range(1, 9):
        await device.observe(Event(item, 0.0))
        if item % 2:
            device.learn()
            learned.append(device._learned.overlay and device._learned.overlay.events_seen)

    assert learned == [None, 3, 3, 7]


async def test_a_round_takes_as_many_steps_as_the_manifest_says(settings: DeviceSettings) -> None:
    device = device_of(settings, items=(1, 2), steps=4)

    await live(device, 3, 4)

    assert device._learned._adam.steps == 8


async def test_what_a_user_learns_does_not_depend_on_who_shares_the_process(
    settings: DeviceSettings,
) -> None:
    scorer = Scorer(build_learning_bundle())
    hosts = [Host(scorer, AbsentCloud(), settings) for _ in range(2)]
    for user in range(1, 6):
        await live(hosts[0].device(user, [user, 2]), 4, 5, 6)
    await live(hosts[1].device(3, [3, 2]), 4, 5, 6)

    heads = [host.devices[3]._learned.overlay.slots[SLOT] for host in hosts]

    assert heads[0].tobytes() == heads[1].tobytes()


@pytest.mark.parametrize("other", [{"user": 2}, {"seed": 1}])
async def test_each_user_and_seed_draws_other_negatives(
    settings: DeviceSettings, other: dict[str, int]
) -> None:
    seeded = settings.model_copy(update={"seed": other.get("seed", 0)})
    one = device_of(settings, items=(1, 2))
    two = device_of(seeded, user=other.get("user", 1), items=(1, 2))

    await live(one, 4, 5, 6)
    await live(two, 4, 5, 6)

    heads = [device._learned.overlay.slots[SLOT] for device in (one, two)]
    assert not np.array_equal(*heads)


async def test_users_and_seeds_up_to_the_largest_draw_anew_at_each_event(
    settings: DeviceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def lesson(*given: Any) -> None:
        drawn.append(given[-1].integers(2**63))

    monkeypatch.setattr(device_client.learner, "lesson_of", lesson)
    last = settings.model_copy(update={"seed": 2**64 - 1})

    for each, user in ((settings, 2**32 - 1), (last, 1), (last, 2**32 - 1)):
        await live(device_of(each, user=user), 4, 5, 6)

    assert len(set(drawn)) == 9


async def test_a_bad_gradient_does_not_end_ranking_with_good_values(
    settings: DeviceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = device_of(settings, items=(1, 2))
    await live(device, 4)
    good = device._learned.overlay.slots[SLOT].copy()
    broken = [np.float32(np.nan), np.full((WIDTH, WIDTH), np.nan, np.float32)]
    graph = device._scorer.learner._graph
    monkeypatch.setattr(graph, "run_all", lambda *_: broken)

    await live(device, 5)

    ranking = await device.rank(CANDIDATES)
    assert ranking.source is Source.LEARNED_WEIGHTS
    np.testing.assert_array_equal(device._learned.overlay.slots[SLOT], good)


async def test_a_device_keeps_three_vectors_and_none_before_it_learns(
    settings: DeviceSettings,
) -> None:
    device = device_of(settings, items=(1, 2))
    before = device.state_bytes

    await live(device, 4, 5)

    assert (before, device.state_bytes) == (0, 3 * 4 * WIDTH * WIDTH)


async def test_the_gradient_is_loaded_once_for_all_devices(
    settings: DeviceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[bytes] = []
    load: Callable[..., Any] = device_client.learner.load_session
    monkeypatch.setattr(
        device_client.learner, "load_session", lambda g, p: loads.append(g) or load(g, p)
    )
    host = Host(activate(build_learning_bundle(), settings), AbsentCloud(), settings)

    for user in range(1, 4):
        await live(host.device(user, [1, 2]), 4)

    assert len(loads) == 1


async def test_a_bundle_without_learning_learns_nothing(settings: DeviceSettings) -> None:
    device = DeviceClient(1, Scorer(build_bundle(uplink=None)), AbsentCloud(), settings, [1, 2])

    await live(device, 4)

    assert not device.learns
    assert (await device.rank(CANDIDATES)).source is Source.DEFAULT_WEIGHTS


def test_devices_remember_what_they_learn_from(settings: DeviceSettings) -> None:
    manifest = build_learning_bundle(rows=30).manifest

    assert settings.memory(manifest) == 30 + manifest.features.window


@pytest.mark.parametrize("port", ["loss", GRAD])
def test_a_bundle_whose_gradients_do_not_come_out_is_never_activated(
    settings: DeviceSettings, port: str
) -> None:
    wrong = learning_vector()
    wrong[port] = wrong[port] + np.float32(1e-3)

    with pytest.raises(BundleRefused, match="gradients"):
        activate(build_learning_bundle(vector=wrong), settings)


def test_a_learning_vector_that_leaves_out_a_port_is_refused(settings: DeviceSettings) -> None:
    vector = learning_vector()
    del vector["weights"]

    with pytest.raises(BundleRefused, match="learning vector"):
        activate(build_learning_bundle(vector=vector), settings)


def test_junk_instead_of_a_gradient_is_refused(settings: DeviceSettings) -> None:
    with pytest.raises(BundleRefused, match="onnxruntime"):
        activate(build_learning_bundle(graph=b"\x00junk" * 50), settings)


def test_a_bundle_that_is_to_learn_without_a_gradient_is_refused(settings: DeviceSettings) -> None:
    with pytest.raises(BundleRefused, match="without a graph 'grad'"):
        activate(build_bundle(learning={"rate": 0.1}), settings)


async def test_what_was_learned_stays_under_a_bundle_with_the_same_slots(
    settings: DeviceSettings,
) -> None:
    device = device_of(settings, items=(1, 2))
    await live(device, 3, 4)
    before = (await device.rank(CANDIDATES)).scores
    other = Scorer(build_learning_bundle(rate=0.01))

    device.switch(other)
    ranking = await device.rank(CANDIDATES)
    await live(device, 5)

    assert ranking.bundle_id == other.bundle_id
    assert ranking.source is Source.LEARNED_WEIGHTS
    assert ranking.scores.tobytes() == before.tobytes()
    assert device._learned._adam.steps == 3
    assert device._learned.overlay.bundle_id == other.bundle_id


async def test_a_bundle_that_learns_nothing_forgets_what_was_learned(
    settings: DeviceSettings,
) -> None:
    device = device_of(settings, items=(1, 2))
    await live(device, 3, 4)

    device.switch(Scorer(build_bundle(uplink=None)))
    ranking = await device.rank(CANDIDATES)

    assert not device.learns
    np.testing.assert_allclose(ranking.scores, expected_scores([1, 2, 3, 4], CANDIDATES), atol=1e-5)
