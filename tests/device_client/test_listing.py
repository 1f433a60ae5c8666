"""A device whose cloud ranks: when it asks, and what it does with the list in between."""

from collections.abc import Sequence

import numpy as np
import pytest

from device_client.client import DeviceClient
from device_client.cloud import AbsentCloud, Cloud
from device_client.scorer import Scorer
from device_client.settings import DeviceSettings
from shared_models.contract.errors import BadSetting
from shared_models.contract.events import Event
from shared_models.contract.ranking import Decision, RankedList, Ranking, Source
from tests.device_client.fakes import ITEMS, FakeCloud, build_bundle, expected_scores

CANDIDATES = [4, 9, 2]


class Player:
    """A device of a bundle for which the cloud ranks."""

    def __init__(
        self, settings: DeviceSettings, between: str, rule: str, *, away: bool = False
    ) -> None:
        ranking = {"longest": 5, "between": between}
        refresh = {"rule": rule, "every": 2}
        self.bundle = build_bundle(prior=True, ranking=ranking, refresh=refresh)
        self.cloud = FakeCloud(self.bundle)
        cloud: Cloud = AbsentCloud() if away else self.cloud
        self.device = DeviceClient(1, Scorer(self.bundle), cloud, settings, [1])

    async def play(self, items: Sequence[int]) -> list[Ranking]:
        """Rank before each of ``items`` is taken."""
        rankings = []
        for item in items:
            rankings.append(await self.device.rank(CANDIDATES))
            await self.device.observe(Event(item, 0.0))
        return rankings


def sources(rankings: Sequence[Ranking]) -> list[Source]:
    return [ranking.source for ranking in rankings]


async def test_a_kept_list_is_shown_as_it_was_until_the_session_ends(
    settings: DeviceSettings,
) -> None:
    player = Player(settings, "keep", "once")

    first = await player.play([3, 4, 5])
    player.device.begin_session()
    second = await player.play([6])

    assert sources(first) == [Source.CLOUD, Source.LIST, Source.LIST]
    assert sources(second) == [Source.CLOUD]
    assert [ranking.overlay_age for ranking in first] == [0, 1, 2]
    assert [ranking.decision for ranking in first] == [
        Decision.ASK_CLOUD,
        Decision.KEEP,
        Decision.KEEP,
    ]
    assert all(ranking.scores.tolist() == [0.0, 1.0, 2.0] for ranking in first)
    assert len(player.cloud.wanted) == 2


@pytest.mark.parametrize("between", ["keep", "rerank"])
async def test_a_list_is_as_old_as_the_window_that_it_was_ranked_for(
    settings: DeviceSettings, between: str
) -> None:
    lagging = settings.model_copy(update={"uplink_lag": 2})
    player = Player(lagging, between, "every-n")

    rankings = await player.play([3, 4, 5, 6, 7])

    assert [list(wanted.window) for wanted in player.cloud.wanted] == [[], [1], [1, 3, 4]]
    assert [ranking.overlay_age for ranking in rankings] == [1, 2, 2, 3, 2]


async def test_a_reranked_list_is_the_prior_of_the_device_s_own_scores(
    settings: DeviceSettings,
) -> None:
    player = Player(settings, "rerank", "once")

    rankings = await player.play([3, 4])

    assert sources(rankings) == [Source.CLOUD, Source.RERANKED]
    own = expected_scores([1, 3], CANDIDATES)
    np.testing.assert_allclose(rankings[1].scores - own, [0, 1, 2], atol=1e-5)
    assert len(player.cloud.wanted) == 1


async def test_the_rule_says_when_a_new_list_is_fetched(settings: DeviceSettings) -> None:
    player = Player(settings, "keep", "every-n")

    rankings = await player.play([3, 4, 5, 6, 7])

    asked = [ranking.source is Source.CLOUD for ranking in rankings]
    assert asked == [True, False, True, False, True]
    assert len(player.cloud.wanted) == 3
    assert list(player.cloud.wanted[-1].window) == [4, 5, 6]


async def test_each_ask_costs_what_its_receipt_says_and_nothing_else_does(
    settings: DeviceSettings,
) -> None:
    player = Player(settings, "rerank", "every-n")

    rankings = await player.play([3, 4, 5])

    assert [ranking.receipt is not None for ranking in rankings] == [True, False, True]


async def test_a_long_slate_makes_the_cloud_retrieve(settings: DeviceSettings) -> None:
    player = Player(settings, "keep", "once")

    ranking = await player.device.rank(range(1, ITEMS + 1))

    assert (player.cloud.wanted[0].candidates, player.cloud.wanted[0].retrieve) == ((), 5)
    # What was not retrieved is as good as the last that was.
    assert ranking.scores[:5].tolist() == [0, 1, 2, 3, 4]
    assert set(ranking.scores[5:].tolist()) == {0}


async def test_a_device_ranks_itself_where_the_cloud_is_away(settings: DeviceSettings) -> None:
    player = Player(settings, "keep", "always", away=True)

    rankings = await player.play([3, 4])

    assert sources(rankings) == [Source.DEFAULT_WEIGHTS] * 2
    np.testing.assert_allclose(rankings[0].scores, expected_scores([1], CANDIDATES), atol=1e-5)


async def test_an_old_list_serves_where_the_cloud_went_away(settings: DeviceSettings) -> None:
    player = Player(settings, "keep", "always")

    await player.play([3])
    player.cloud.away = True
    rankings = await player.play([4])

    assert sources(rankings) == [Source.RERANKED]
    assert rankings[0].overlay_age == 1
    assert rankings[0].decision is Decision.ASK_CLOUD


async def test_with_never_nothing_is_asked(settings: DeviceSettings) -> None:
    player = Player(settings, "keep", "never")

    rankings = await player.play([3, 4])

    assert sources(rankings) == [Source.DEFAULT_WEIGHTS] * 2
    assert not player.cloud.wanted


def test_a_controller_that_is_not_there_cannot_choose(settings: DeviceSettings) -> None:
    bundle = build_bundle(prior=True, ranking={})
    chooses = settings.model_copy(update={"between": "controller"})

    with pytest.raises(BadSetting, match="controller"):
        DeviceClient(1, Scorer(bundle), FakeCloud(bundle), chooses, [1])


def test_a_list_knows_its_items_in_any_order() -> None:
    listed = RankedList(np.array([7, 2, 5]), np.array([0.5, -1, 2], np.float32), 3)

    assert listed.of(np.array([5, 1, 7, 9, 2])).tolist() == [2, -1, 0.5, -1, -1]
