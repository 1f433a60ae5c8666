"""Metrics by activity and by staleness: each group is what its rankings alone would give."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from shared_models.contract.metrics import UserMetric, bootstrap_interval
from simulator.groups import (
    AGES,
    WITHOUT,
    as_json,
    by_activity,
    by_staleness,
    over_seeds,
    ranked,
)
from simulator.tally import Tally
from tests.simulator.conftest import USERS, make_moments, make_rankings


@pytest.fixture
def rankings() -> pl.DataFrame:
    moments = make_moments()
    tally = Tally(moments)
    scores = np.random.default_rng(1).random(len(moments.candidates)).astype("<f4")
    tally.enter(0, make_rankings(range(len(moments)), scores))
    ages = pl.Series([None, 0, 3, 7, 60] * (len(moments) // 5), dtype=pl.UInt32)
    return tally.frame().with_columns(overlay_age=ages)


def auc_by_hand(part: pl.DataFrame) -> float:
    labels = [
        place in taken
        for scores, taken in part.select("scores", "taken").iter_rows()
        for place in range(len(scores))
    ]
    return float(roc_auc_score(labels, np.concatenate(part["scores"].to_list())))


def test_rankings_that_were_written_are_evaluated_as_they_were_measured() -> None:
    moments = make_moments()
    tally = Tally(moments)
    tally.enter(0, make_rankings(range(len(moments)), np.arange(len(moments.candidates)) % 7.0))

    found = ranked(tally.frame())

    assert (found.user_M == moments.user).all()
    assert (found.sizes_M == moments.sizes).all()
    assert (found.labels_S == moments.labels).all()
    assert (found.scores_S == tally.scores).all()


def test_the_auc_of_users_is_that_of_their_rankings_alone(rankings: pl.DataFrame) -> None:
    groups = by_activity(rankings, USERS)

    assert sum(group.recommendations for group in groups) == len(rankings)
    assert sum(group.users for group in groups) == USERS
    first = rankings.with_columns(events=pl.col("seq").min().over("user"))
    for group in groups:
        part = first.filter(pl.col("events").is_between(*group.bounds))
        assert group.recommendations == len(part)
        assert group.metrics["auc"].value == pytest.approx(auc_by_hand(part), abs=1e-12)


def test_thirds_of_users_are_as_equal_as_can_be(rankings: pl.DataFrame) -> None:
    users = pl.DataFrame({"user": range(7), "offset": [0, 10, 20, 30, 40, 50, 60]})
    spread = rankings.join(users, on="user").with_columns(pl.col("seq") + pl.col("offset"))

    groups = by_activity(spread, USERS)

    assert [group.users for group in groups] == [3, 2, 2]


def test_users_of_equal_activity_stay_together(rankings: pl.DataFrame) -> None:
    alike = rankings.with_columns(seq=pl.lit(5, pl.Int64))

    groups = by_activity(alike, USERS)

    assert [group.bounds for group in groups] == [(5, 5)]


def test_rankings_are_grouped_by_the_age_of_their_overlay(rankings: pl.DataFrame) -> None:
    groups = {group.bounds: group for group in by_staleness(rankings, USERS)}

    assert list(groups) == [AGES[0], AGES[1], AGES[2], AGES[4], WITHOUT]
    assert {group.recommendations for group in groups.values()} == {len(rankings) // 5}
    old = rankings.filter(overlay_age=60)
    assert groups[AGES[4]].metrics["auc"].value == pytest.approx(auc_by_hand(old), abs=1e-12)


def test_without_any_overlay_nothing_is_stale(rankings: pl.DataFrame) -> None:
    never = rankings.with_columns(overlay_age=pl.lit(None, pl.UInt32))

    assert by_staleness(never, USERS) == ()


def test_one_user_alone_has_an_estimate_and_no_interval() -> None:
    alone = UserMetric(np.array([0.0, 0.7, 0.0]), np.array([0.0, 1.0, 0.0]))

    found = as_json(bootstrap_interval(alone), alone)

    assert found == {"mean": 0.7, "low": None, "high": None}


def test_groups_of_seeds_are_rows_with_intervals_in_order(rankings: pl.DataFrame) -> None:
    other = rankings.with_columns(pl.col("overlay_age").replace(3, 30))

    rows = over_seeds([by_staleness(rankings, USERS), by_staleness(other, USERS)])

    assert [row["at_least"] for row in rows] == [0, 1, 6, 21, 51, None]
    assert [row["recommendations"] for row in rows] == [48, 24, 48, 24, 48, 48]
    for row in rows:
        assert row["auc"]["low"] <= row["auc"]["mean"] <= row["auc"]["high"]
