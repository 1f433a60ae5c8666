"""The device's whole story, behind the seam."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from device_client.client import DeviceClient
from device_client.cloud import AbsentCloud
from device_client.scorer import Scorer
from device_client.settings import DeviceSettings
from shared_models.contract.errors import BadAsk, CloudUnavailable
from shared_models.contract.events import Event
from shared_models.contract.features import PROFILE, FieldSpec
from shared_models.contract.manifest import ControllerSpec, RefreshRule
from shared_models.contract.ranking import Decision, Receipt, Source
from tests.device_client.fakes import RECEIPT, FakeCloud, build_bundle, expected_scores, head

CANDIDATES = [3, 7, 9]
MakeDevice = Callable[..., DeviceClient]


@pytest.fixture
def device(scorer: Scorer, cloud: FakeCloud, settings: DeviceSettings) -> DeviceClient:
    return DeviceClient(1, scorer, cloud, settings, [1, 2, 3, 4])


def with_rule(settings: DeviceSettings, **fields: object) -> DeviceSettings:
    return settings.model_copy(update={"refresh": RefreshRule(**fields)})


async def test_a_device_keeps_ranking_while_the_cloud_is_away(
    scorer: Scorer, settings: DeviceSettings
) -> None:
    device = DeviceClient(1, scorer, AbsentCloud(), settings)
    await device.observe(Event(item=7, at=0.0))

    ranking = await device.rank(CANDIDATES)

    assert sorted(ranking.items) == CANDIDATES
    assert ranking.source is Source.DEFAULT_WEIGHTS
    assert ranking.overlay_age is None
    np.testing.assert_allclose(ranking.scores, expected_scores([7], CANDIDATES), atol=1e-5)


async def test_a_device_ranks_with_what_the_cloud_wrote_for_it(
    device: DeviceClient, cloud: FakeCloud
) -> None:
    ranking = await device.rank(CANDIDATES, at=8.0)

    assert (ranking.source, ranking.overlay_age) == (Source.OVERLAY, 0)
    assert ranking.decision is Decision.REFRESH
    assert cloud.refreshes == [(1, [2, 3, 4], 4, 8.0)]
    wanted = expected_scores([1, 2, 3, 4], CANDIDATES, head(0.5))
    np.testing.assert_allclose(ranking.scores, wanted, atol=1e-5)


async def test_scores_come_in_the_order_of_the_candidates(device: DeviceClient) -> None:
    forth, back = await device.rank([3, 7, 9]), await device.rank([9, 7, 3])

    assert forth.scores.tolist() == back.scores[::-1].tolist()
    assert forth.candidates.tolist() == [3, 7, 9]


async def test_an_old_overlay_ranks_on_while_the_cloud_is_away(
    device: DeviceClient, cloud: FakeCloud
) -> None:
    await device.rank(CANDIDATES)
    cloud.away = True
    await device.observe(Event(5, 1.0))

    ranking = await device.rank(CANDIDATES)

    assert (ranking.source, ranking.overlay_age) == (Source.STALE_OVERLAY, 1)
    wanted = expected_scores([1, 2, 3, 4, 5], CANDIDATES, head(0.5))
    np.testing.assert_allclose(ranking.scores, wanted, atol=1e-5)


async def test_an_overlay_past_its_age_gives_way_to_the_default_head(
    scorer: Scorer, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    device = DeviceClient(1, scorer, cloud, with_rule(settings, rule="always", max_age=2), [1])
    await device.rank(CANDIDATES)
    cloud.away = True
    sources = []

    for item in (2, 3, 4):
        await device.observe(Event(item, 0.0))
        sources.append((await device.rank(CANDIDATES)).source)

    assert sources == [Source.STALE_OVERLAY, Source.STALE_OVERLAY, Source.DEFAULT_WEIGHTS]


async def test_the_rule_every_n_asks_exactly_every_n_events(
    scorer: Scorer, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    device = DeviceClient(1, scorer, cloud, with_rule(settings, rule="every-n", every=3))

    for item in range(1, 11):
        await device.rank(CANDIDATES)
        await device.rank(CANDIDATES)
        await device.observe(Event(item, 0.0))

    assert [seen for _, _, seen, _ in cloud.refreshes] == [0, 3, 6, 9]


async def test_the_rule_never_asks_nothing(
    scorer: Scorer, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    device = DeviceClient(1, scorer, cloud, with_rule(settings, rule="never"))

    ranking = await device.rank(CANDIDATES)

    assert (ranking.source, ranking.decision) == (Source.DEFAULT_WEIGHTS, Decision.SCORE)
    assert cloud.refreshes == []


async def test_a_missed_refresh_is_made_up_at_the_next_ranking(
    scorer: Scorer, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    device = DeviceClient(1, scorer, cloud, with_rule(settings, rule="every-n", every=100))
    cloud.away = True
    missed = await device.rank(CANDIDATES)
    cloud.away = False

    made_up = await device.rank(CANDIDATES)

    assert (missed.source, made_up.source) == (Source.DEFAULT_WEIGHTS, Source.OVERLAY)


@pytest.mark.parametrize("bad", [head(np.nan), np.zeros((2, 2), np.float32)], ids=["nan", "shape"])
async def test_a_refused_overlay_leaves_the_last_good_one(
    device: DeviceClient, cloud: FakeCloud, bad: np.ndarray
) -> None:
    good = await device.rank(CANDIDATES)
    cloud.heads = [bad]

    after = await device.rank(CANDIDATES)

    assert after.source is Source.STALE_OVERLAY
    assert after.scores.tobytes() == good.scores.tobytes()


async def test_a_lagging_uplink_makes_overlays_of_that_age(
    scorer: Scorer, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    lagging = settings.model_copy(update={"uplink_lag": 2})
    device = DeviceClient(1, scorer, cloud, lagging, [1, 2, 3, 4, 5, 6])

    ranking = await device.rank(CANDIDATES)

    assert cloud.refreshes == [(1, [2, 3, 4], 4, 0.0)]
    assert (ranking.source, ranking.overlay_age) == (Source.OVERLAY, 2)


async def test_overlays_of_two_devices_do_not_interact(
    scorer: Scorer, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    cloud.heads = [head(0.5), head(-2.0)]
    one = DeviceClient(1, scorer, cloud, settings, [1, 2])
    two = DeviceClient(2, scorer, cloud, settings, [1, 2])
    of_one, of_two = await one.rank(CANDIDATES), await two.rank(CANDIDATES)
    cloud.away = True

    again = await one.rank(CANDIDATES)

    assert again.scores.tobytes() == of_one.scores.tobytes() != of_two.scores.tobytes()


async def test_forgetting_the_overlay_restores_the_scores_bit_for_bit(
    device: DeviceClient, cloud: FakeCloud
) -> None:
    cloud.away = True
    before = await device.rank(CANDIDATES)
    cloud.away = False
    between = await device.rank(CANDIDATES)
    cloud.away = True

    device.forget_overlay()
    after = await device.rank(CANDIDATES)

    assert before.scores.tobytes() == after.scores.tobytes() != between.scores.tobytes()


async def test_candidates_that_the_model_does_not_know_count_as_no_item(
    device: DeviceClient,
) -> None:
    ranking = await device.rank([3, 4711])

    assert ranking.scores[1] == 0.0
    assert ranking.candidates.tolist() == [3, 4711]


class Uploads:
    """A device of a bundle that allows uploads, and its cloud."""

    def __init__(self, settings: DeviceSettings, **fields: object) -> None:
        bundle = build_bundle(uploads=True, refresh={"rule": "never"})
        self.cloud = FakeCloud(bundle)
        self.device = DeviceClient(
            1, Scorer(bundle), self.cloud, settings.model_copy(update=fields)
        )

    async def observe(self, *items: int) -> None:
        for item in items:
            await self.device.observe(Event(item, float(item)))


async def test_events_go_up_in_batches_and_the_rest_with_a_flush(settings: DeviceSettings) -> None:
    uploads = Uploads(settings, upload_batch=4)

    await uploads.observe(*range(1, 11))
    before = list(uploads.cloud.journal[1])
    await uploads.device.flush()

    assert before == list(range(1, 9))
    assert uploads.cloud.journal[1] == list(range(1, 11))
    assert len(uploads.cloud.batches) == 3
    assert uploads.device.events_handed_over == 10


async def test_events_are_stored_exactly_once_when_the_cloud_flickers(
    settings: DeviceSettings,
) -> None:
    uploads = Uploads(settings, upload_batch=2)
    await uploads.observe(1, 2, 3)
    uploads.cloud.away = True
    await uploads.observe(4, 5, 6)
    uploads.cloud.away = False
    uploads.cloud.lose_acknowledgements = 2

    await uploads.observe(7, 8)
    await uploads.device.flush()

    assert uploads.cloud.journal[1] == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_a_new_device_numbers_its_events_after_those_of_its_former_life(
    settings: DeviceSettings,
) -> None:
    uploads = Uploads(settings)
    uploads.cloud.journal[1] = [11, 12]

    await uploads.observe(1)
    await uploads.device.flush()

    assert uploads.cloud.journal[1] == [11, 12, 1]


async def test_a_full_outbox_waits_for_the_cloud_and_loses_nothing(
    settings: DeviceSettings,
) -> None:
    uploads = Uploads(settings, outbox=3, upload_batch=3, flush_s=0.2)
    uploads.cloud.away = True
    await uploads.observe(1, 2, 3)

    with pytest.raises(CloudUnavailable, match="3 events of user 1"):
        await uploads.observe(4)
    uploads.cloud.away = False
    await uploads.device.flush()

    assert uploads.cloud.journal[1] == [1, 2, 3]


async def test_events_wait_while_a_token_is_renewed_and_then_go_up(
    settings: DeviceSettings,
) -> None:
    uploads = Uploads(settings, upload_batch=2, flush_s=10.0)
    uploads.cloud.refuses_tokens = True

    await uploads.observe(1, 2, 3)
    flushing = asyncio.create_task(uploads.device.flush())
    await asyncio.sleep(0.05)
    uploads.cloud.refuses_tokens = False
    await flushing

    assert uploads.cloud.journal[1] == [1, 2, 3]


async def test_what_an_outage_left_goes_up_in_pieces(
    settings: DeviceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_client.uploads.PIECE", 3)
    uploads = Uploads(settings, upload_batch=20)
    await uploads.observe(*range(1, 9))

    await uploads.device.flush()

    assert uploads.cloud.batches == [3, 3, 2]
    assert uploads.cloud.journal[1] == list(range(1, 9))


async def test_a_bundle_without_uploads_sends_no_event_up(
    device: DeviceClient, cloud: FakeCloud
) -> None:
    for item in range(1, 20):
        await device.observe(Event(item, 0.0))
    await device.flush()

    assert cloud.journal == {}
    assert device.events_handed_over == 0


async def test_a_cloud_that_refuses_costs_the_refresh_not_the_ranking(
    device: DeviceClient, cloud: FakeCloud, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object) -> None:
        raise BadAsk("not like this")

    cloud.refresh = refuse

    ranking = await device.rank(CANDIDATES)

    assert ranking.source is Source.DEFAULT_WEIGHTS
    assert "not like this" in caplog.text


async def test_refreshes_keep_to_their_budget_of_bytes(
    scorer: Scorer, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    spent = RECEIPT.bytes_up + RECEIPT.bytes_down
    frugal = with_rule(settings, rule="always", budget=spent / 4)
    device = DeviceClient(1, scorer, cloud, frugal, [1])

    decisions = [(await device.rank(CANDIDATES)).decision for _ in range(9)]

    asked = [number for number, each in enumerate(decisions) if each is Decision.REFRESH]
    assert asked == [0, 3, 7]


async def test_an_answer_that_is_of_no_use_has_its_receipt_as_well(
    settings: DeviceSettings,
) -> None:
    device, cloud = grouped(settings, 2)
    cloud.heads = [head(np.nan), head(0.5)]
    no_slots = (await device.rank(CANDIDATES)).receipt
    cloud.group = AbsentCloud().group
    no_group = (await device.rank(CANDIDATES)).receipt

    assert (no_slots, no_group) == (RECEIPT, RECEIPT)


async def test_the_rule_random_asks_at_its_share_though_nothing_is_taken(
    scorer: Scorer, cloud: FakeCloud, settings: DeviceSettings
) -> None:
    by_chance = with_rule(settings, rule="random", share=0.3)

    for user in range(10):
        device = DeviceClient(user, scorer, cloud, by_chance, [1])
        for _ in range(101):
            await device.rank(CANDIDATES)

    asked = Counter(user for user, *_ in cloud.refreshes)
    # Beyond the first one of each; 4.6 is the spread of 100 draws.
    assert all(abs(asked[user] - 1 - 30) < 4 * 4.6 for user in range(10))


async def test_a_ranking_brings_the_receipt_of_the_exchange_that_it_waited_for(
    device: DeviceClient, cloud: FakeCloud
) -> None:
    assert (await device.rank(CANDIDATES)).receipt == RECEIPT

    cloud.away = True

    assert (await device.rank(CANDIDATES)).receipt is None


async def test_a_controller_compares_the_window_with_that_of_the_last_refresh(
    scorer: Scorer, cloud: FakeCloud, settings: DeviceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def measure(output: str, now: list[int], then: Sequence[int]) -> float:
        measured.append((output, list(now), list(then)))
        return 1.0 if now[-1] == 9 else 0.0

    monkeypatch.setattr(scorer, "measure", measure)
    spec = ControllerSpec(calibration={"change": (0.5,), "gain": (0.5,)})
    scorer.manifest = scorer.manifest.model_copy(update={"controller": spec})
    device = DeviceClient(1, scorer, cloud, with_rule(settings, rule="on-change"), [1])

    for item in (8, 9, 7):
        await device.rank(CANDIDATES)
        await device.observe(Event(item=item, at=0.0))
    await device.rank(CANDIDATES)

    assert measured == [
        ("change", [1, 8], [1]),
        ("change", [1, 8, 9], [1]),
        ("change", [8, 9, 7], [1, 8, 9]),
    ]


class Refreshes:
    """A device whose refreshes bring the events that its cloud lacks, and that cloud."""

    def __init__(self, settings: DeviceSettings, **fields: object) -> None:
        manifest = {"uploads": True, "uplink": {"items": 3, "pending": True}, **fields}
        bundle = build_bundle(**manifest)
        self.cloud = FakeCloud(bundle)
        self.device = DeviceClient(1, Scorer(bundle), self.cloud, settings)

    async def observe(self, *items: int) -> None:
        for item in items:
            await self.device.observe(Event(item, float(item)))

    @property
    def brought(self) -> list[tuple[int, list[int]]]:
        """(number of the first event, items) of each refresh."""
        batches = [uplink.pending for uplink in self.cloud.uplinks]
        return [(b.first, [event.item for event in b.events]) for b in batches if b is not None]


async def test_a_refresh_brings_exactly_the_events_that_the_cloud_lacks(
    settings: DeviceSettings,
) -> None:
    refreshes = Refreshes(settings)

    for items in ((1, 2, 3, 4, 5), (), (6, 7)):
        await refreshes.observe(*items)
        await refreshes.device.rank(CANDIDATES)

    assert refreshes.brought == [(0, [1, 2, 3, 4, 5]), (5, []), (5, [6, 7])]
    assert all(uplink.items == () for uplink in refreshes.cloud.uplinks)
    assert refreshes.cloud.journal[1] == [1, 2, 3, 4, 5, 6, 7]


async def test_refreshes_number_events_after_those_of_a_former_life(
    settings: DeviceSettings,
) -> None:
    refreshes = Refreshes(settings)
    refreshes.cloud.journal[1] = [11, 12]

    await refreshes.observe(1)
    await refreshes.device.rank(CANDIDATES)

    assert refreshes.brought == [(2, [1])]
    assert refreshes.cloud.journal[1] == [11, 12, 1]


async def test_a_refresh_whose_answer_got_lost_is_repeated_and_stored_once(
    settings: DeviceSettings,
) -> None:
    refreshes = Refreshes(settings)
    await refreshes.observe(1, 2)
    refreshes.cloud.lose_acknowledgements = 1

    missed = await refreshes.device.rank(CANDIDATES)
    await refreshes.observe(3)
    again = await refreshes.device.rank(CANDIDATES)

    assert (missed.source, again.source) == (Source.DEFAULT_WEIGHTS, Source.OVERLAY)
    assert refreshes.brought == [(0, [1, 2]), (0, [1, 2, 3])]
    assert refreshes.cloud.journal[1] == [1, 2, 3]


async def test_events_of_an_outage_come_with_the_refresh_after_it(
    settings: DeviceSettings,
) -> None:
    refreshes = Refreshes(settings)
    refreshes.cloud.away = True
    await refreshes.observe(1, 2)
    await refreshes.device.rank(CANDIDATES)
    refreshes.cloud.away = False

    await refreshes.device.rank(CANDIDATES)

    assert refreshes.brought == [(0, [1, 2])]


async def test_events_are_acknowledged_even_where_the_slots_are_refused(
    settings: DeviceSettings,
) -> None:
    refreshes = Refreshes(settings)
    refreshes.cloud.heads = [head(np.nan), head(0.5)]

    for item in (1, 2):
        await refreshes.observe(item)
        await refreshes.device.rank(CANDIDATES)

    assert refreshes.brought == [(0, [1]), (1, [2])]


@pytest.mark.parametrize(("lag", "apart"), [(0, [3, 3]), (2, [3])])
async def test_a_refresh_after_an_outage_brings_the_newest_piece_alone(
    settings: DeviceSettings, monkeypatch: pytest.MonkeyPatch, lag: int, apart: list[int]
) -> None:
    monkeypatch.setattr("device_client.uploads.PIECE", 3)
    refreshes = Refreshes(settings.model_copy(update={"uplink_lag": lag}))
    await refreshes.observe(*range(1, 9))

    await refreshes.device.rank(CANDIDATES)

    assert refreshes.cloud.batches == apart
    assert refreshes.cloud.journal[1] == list(range(1, 9 - lag))
    assert [len(items) for _, items in refreshes.brought] == [8 - lag - sum(apart)]


async def test_nothing_goes_up_apart_while_refreshes_bring_it(settings: DeviceSettings) -> None:
    refreshes = Refreshes(settings.model_copy(update={"upload_batch": 2}))

    await refreshes.observe(1, 2, 3, 4)
    await refreshes.device.rank(CANDIDATES)

    assert len(refreshes.cloud.batches) == 0
    assert refreshes.cloud.journal[1] == [1, 2, 3, 4]


async def test_with_the_rule_never_pending_events_go_up_in_batches(
    settings: DeviceSettings,
) -> None:
    refreshes = Refreshes(
        settings.model_copy(update={"upload_batch": 2}), refresh={"rule": "never"}
    )

    for item in (1, 2, 3, 4, 5):
        await refreshes.observe(item)
        await refreshes.device.rank(CANDIDATES)

    assert refreshes.brought == []
    assert len(refreshes.cloud.batches) == 2
    assert refreshes.cloud.journal[1] == [1, 2, 3, 4]


async def test_a_lagging_uplink_holds_back_the_newest_events(settings: DeviceSettings) -> None:
    refreshes = Refreshes(settings.model_copy(update={"uplink_lag": 2}))

    ages = []
    for items in ((1,), (2, 3, 4), (5,)):
        await refreshes.observe(*items)
        ages.append((await refreshes.device.rank(CANDIDATES)).overlay_age)

    assert refreshes.brought == [(0, []), (0, [1, 2]), (2, [3])]
    assert ages == [1, 2, 2]


GROUPS = {"count": 3, "slots": ("head.weight",)}


def grouped(settings: DeviceSettings, *groups: int) -> tuple[DeviceClient, FakeCloud]:
    """A device of a bundle with groups, and a cloud that names one at each refresh."""
    bundle = build_bundle(groups=GROUPS)
    cloud = FakeCloud(bundle)
    cloud.groups = list(groups)
    return DeviceClient(1, Scorer(bundle), cloud, settings, [1, 2, 3, 4]), cloud


async def test_what_a_group_shares_is_asked_for_when_the_group_changes(
    settings: DeviceSettings,
) -> None:
    device, cloud = grouped(settings, 2, 2, 2, 3, 3, 2)
    asked = []

    for _ in range(6):
        await device.rank(CANDIDATES)
        asked.append(list(cloud.asked_groups))

    assert asked == [[2], [2], [2], [2, 3], [2, 3], [2, 3, 2]]


async def test_what_a_ranking_cost_includes_what_its_group_shares(
    settings: DeviceSettings,
) -> None:
    device, _ = grouped(settings, 2, 2)

    joining, later = [(await device.rank(CANDIDATES)).receipt for _ in range(2)]

    assert joining == Receipt(ask=1, bytes_up=40, bytes_down=160, seconds=0.002, exchanges=2)
    assert later == Receipt(ask=1, bytes_up=20, bytes_down=80, seconds=0.001)


async def test_a_device_ranks_with_what_its_group_shares(settings: DeviceSettings) -> None:
    device, _ = grouped(settings, 2)

    ranking = await device.rank(CANDIDATES)

    wanted = expected_scores([1, 2, 3, 4], CANDIDATES, head(200.0))
    np.testing.assert_allclose(ranking.scores, wanted, rtol=1e-5)
    assert (ranking.source, ranking.overlay_age) == (Source.OVERLAY, 0)


async def test_a_group_that_does_not_come_is_asked_for_again(
    settings: DeviceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, cloud = grouped(settings, 2)
    answer = cloud.group

    async def lost(*_: object) -> None:
        raise CloudUnavailable("the answer got lost")

    monkeypatch.setattr(cloud, "group", lost)
    missed = await device.rank(CANDIDATES)
    monkeypatch.setattr(cloud, "group", answer)
    again = await device.rank(CANDIDATES)

    assert (missed.source, again.source) == (Source.STALE_OVERLAY, Source.OVERLAY)
    assert np.isfinite(missed.scores).all()
    assert cloud.asked_groups == [2]
    wanted = expected_scores([1, 2, 3, 4], CANDIDATES, head(200.0))
    np.testing.assert_allclose(again.scores, wanted, rtol=1e-5)


async def test_a_device_that_forgets_its_overlay_asks_for_its_group_again(
    settings: DeviceSettings,
) -> None:
    device, cloud = grouped(settings, 2)
    await device.rank(CANDIDATES)

    device.forget_overlay()
    await device.rank(CANDIDATES)

    assert cloud.asked_groups == [2, 2]


async def test_what_a_group_shares_is_as_old_as_the_uplink_that_named_it(
    settings: DeviceSettings,
) -> None:
    device, cloud = grouped(settings.model_copy(update={"uplink_lag": 2}), 2, 2, 3)

    rankings = [await device.rank(CANDIDATES)]
    for item in (5, 6):
        await device.observe(Event(item, 0.0))
        rankings.append(await device.rank(CANDIDATES))

    assert [ranking.overlay_age for ranking in rankings] == [2, 2, 2]
    assert {ranking.source for ranking in rankings} == {Source.OVERLAY}
    assert cloud.asked_groups == [2, 3]


@pytest.mark.parametrize(("cross_user", "refreshed_at"), [(True, [0, 3, 6]), (False, [])])
async def test_only_devices_that_others_read_refresh_though_nobody_ranks_and_when_due(
    settings: DeviceSettings, refreshed_at: list[int], *, cross_user: bool
) -> None:
    bundle = build_bundle(cross_user=cross_user, refresh={"rule": "every-n", "every": 3})
    cloud = FakeCloud(bundle)
    device = DeviceClient(1, Scorer(bundle), cloud, settings)

    for item in range(1, 8):
        await device.share()
        await device.share()
        await device.observe(Event(item, 0.0))

    assert [seen for _, _, seen, _ in cloud.refreshes] == refreshed_at


async def test_a_missing_cloud_leaves_what_should_be_shared_for_later(
    settings: DeviceSettings,
) -> None:
    bundle = build_bundle(cross_user=True, refresh={"rule": "every-n", "every": 3})
    cloud = FakeCloud(bundle)
    device = DeviceClient(1, Scorer(bundle), cloud, settings, [1])
    cloud.away = True
    await device.share()
    cloud.away = False

    await device.share(at=7.0)

    assert cloud.refreshes == [(1, [1], 1, 7.0)]


async def test_a_device_feeds_its_user_s_profile(
    scorer: Scorer, cloud: FakeCloud, settings: DeviceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = FieldSpec(values=9, most=3)
    features = scorer.manifest.features.model_copy(update={"profile": profile})
    scorer._features = features
    fed = []

    def run(_: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
        fed.append(feeds[PROFILE].tolist())
        return np.zeros((1, len(CANDIDATES)), np.float32)

    monkeypatch.setattr(scorer, "_graph", SimpleNamespace(run=run))
    for known in ((), (4, 99, 2)):
        device = DeviceClient(1, scorer, cloud, settings, [1], profile=known)
        await device.rank(CANDIDATES)

    assert fed == [[[0, 0, 0]], [[4, 0, 2]]]


async def test_another_bundle_ranks_with_its_own_weights_and_overlays_of_the_old_one_go(
    scorer: Scorer, settings: DeviceSettings, cloud: FakeCloud
) -> None:
    device = DeviceClient(1, scorer, cloud, settings, [1, 2])
    await device.rank([3, 4])
    other = build_bundle(config={"release": 2})
    cloud.away = True

    device.switch(Scorer(other))
    ranking = await device.rank([3, 4])

    assert ranking.bundle_id == other.id
    assert ranking.source is Source.DEFAULT_WEIGHTS
    np.testing.assert_allclose(ranking.scores, expected_scores([1, 2], [3, 4]), atol=1e-5)


async def test_a_bundle_that_follows_another_is_asked_about_at_once(
    scorer: Scorer, settings: DeviceSettings, cloud: FakeCloud
) -> None:
    device = DeviceClient(1, scorer, cloud, with_rule(settings, rule="every-n", every=50), [1, 2])
    await device.rank([3, 4])
    cloud.bundle = other = build_bundle(config={"release": 2})

    device.switch(Scorer(other))
    ranking = await device.rank([3, 4])

    assert ranking.source is Source.OVERLAY
    assert len(cloud.refreshes) == 2


async def test_events_that_wait_go_up_under_the_next_bundle(settings: DeviceSettings) -> None:
    uploads = Uploads(settings, upload_batch=4)
    await uploads.observe(1, 2, 3, 4, 5)
    uploads.cloud.bundle = build_bundle(
        uploads=True, refresh={"rule": "never"}, config={"release": 2}
    )

    uploads.device.switch(Scorer(uploads.cloud.bundle))
    await uploads.observe(6)
    await uploads.device.flush()

    assert uploads.cloud.journal[1] == [1, 2, 3, 4, 5, 6]


async def test_under_a_bundle_without_uploads_no_event_goes_up_and_none_is_lost(
    settings: DeviceSettings,
) -> None:
    uploads = Uploads(settings, upload_batch=2)
    allows, bundle = uploads.cloud.bundle, build_bundle(refresh={"rule": "never"})
    await uploads.observe(1, 2, 3)

    uploads.device.switch(Scorer(bundle))
    await uploads.observe(4, 5, 6)
    await uploads.device.flush()
    before = list(uploads.cloud.journal[1])
    uploads.device.switch(Scorer(allows))
    await uploads.observe(7)

    assert before == [1, 2]
    assert uploads.cloud.journal[1] == [1, 2, 3, 7]


async def test_a_bundle_that_reads_a_longer_past_gets_it(
    scorer: Scorer, settings: DeviceSettings, cloud: FakeCloud
) -> None:
    device = DeviceClient(1, scorer, cloud, settings, [1, 2])
    cloud.bundle = build_bundle(uplink={"items": 8})

    device.switch(Scorer(cloud.bundle))
    for item in range(3, 13):
        await device.observe(Event(item, 0.0))
    await device.rank(CANDIDATES)

    assert cloud.refreshes == [(1, list(range(5, 13)), 12, 0.0)]
