"""The world of trends: its closed forms, and a log in which only neighbours know them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shared_models.contract.metrics import auc
from shared_models.contract.tensors import Int64Array
from shared_models.logs.neighbours import neighbours
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PARTS
from shared_models.logs.source import Source
from shared_models.logs.worlds.trend import Lives, TrendWorld, live, read_trend

WORLD = TrendWorld()


@pytest.fixture(scope="module")
def source() -> Source:
    return read_trend(WORLD)


@pytest.fixture(scope="module")
def lives() -> Lives:
    return live(WORLD)


def auc_of(source: Source, topic_PGS: Int64Array) -> float:
    """The AUC over all requests of knowing a topic for each."""
    shown = source.events.filter(pl.col("request").is_not_null())
    known = np.broadcast_to(topic_PGS, (WORLD.periods, WORLD.communities, WORLD.steps)).ravel()
    scores = known[shown["request"].to_numpy()] == WORLD.topics.of(shown["item"].to_numpy())
    return auc(scores.astype(np.float32), shown["label"].to_numpy() > 0)


def most_clicked(item: Int64Array) -> Int64Array:
    """The most frequent topic along the last axis."""
    topic = WORLD.topics.of(item)
    counts = [(topic == each).sum(axis=-1) for each in range(WORLD.topics.count)]
    return np.argmax(counts, axis=0)


def test_the_truth_is_that_of_the_closed_forms(source: Source) -> None:
    assert source.truth == pytest.approx({"best_auc": 0.85, "stale_auc": 0.5, "blind_auc": 0.5})


def test_who_knows_the_trend_is_as_good_as_can_be(source: Source, lives: Lives) -> None:
    assert auc_of(source, lives.trend[..., None]) == pytest.approx(0.85, abs=0.01)


def test_who_believes_the_trend_of_the_period_before_knows_nothing(
    source: Source, lives: Lives
) -> None:
    before = np.roll(lives.trend, 1, axis=0)[..., None]

    assert auc_of(source, before) == pytest.approx(0.5, abs=0.01)


def test_what_neighbours_clicked_in_the_period_shows_the_trend(
    source: Source, lives: Lives
) -> None:
    theirs = lives.clicked[:, :, : WORLD.neighbours, 1:]

    shown = most_clicked(theirs.reshape(WORLD.periods, WORLD.communities, -1))

    assert (shown == lives.trend).all()
    assert auc_of(source, shown[..., None]) == pytest.approx(0.85, abs=0.01)


def test_what_a_centre_clicked_says_nothing(source: Source, lives: Lives) -> None:
    own = most_clicked(lives.clicked[:, :, WORLD.neighbours :, 1:])

    assert auc_of(source, own) == pytest.approx(0.5, abs=0.01)


def test_centres_are_asked_once_in_a_period_and_neighbours_never(source: Source) -> None:
    length = 60.0 * (1 + WORLD.clicks + WORLD.steps)

    requests = source.events.drop_nulls("request").unique("request")

    assert source.users is not None
    centres = source.users.filter("centre")["raw"].cast(pl.Int64)
    asked = requests.group_by("user", period=pl.col("at") // length).len()
    assert set(asked["len"]) == {1}
    assert len(asked) == len(centres) * WORLD.periods
    assert set(asked["user"]) == set(centres)


def test_everybody_s_clicks_of_a_period_come_before_its_requests(source: Source) -> None:
    length = 60.0 * (1 + WORLD.clicks + WORLD.steps)

    mere = pl.col("request").is_null()
    spans = source.events.group_by(period=pl.col("at") // length).agg(
        clicked=pl.col("at").filter(mere).max(), asked=pl.col("at").filter(~mere).min()
    )

    assert len(spans) == WORLD.periods
    assert (spans["clicked"] < spans["asked"]).all()


def test_a_centre_s_neighbours_are_found_in_the_training_part(
    source: Source, tmp_path: Path
) -> None:
    log = prepare(source, "user-tail", tmp_path / "log")

    found = neighbours(log.train, log.users, log.items, WORLD.neighbours)

    by_community = found.reshape(WORLD.communities, WORLD.members, -1)
    first = WORLD.members * np.arange(WORLD.communities)[:, None, None]
    expected = first + np.arange(WORLD.neighbours)
    centres = np.sort(by_community[:, WORLD.neighbours :], axis=-1)
    assert (centres == expected).all()


@pytest.mark.parametrize("split", ["user-tail", "global-time"])
def test_both_splits_cut_between_periods(source: Source, split: str, tmp_path: Path) -> None:
    log = prepare(source, split, tmp_path / "log")

    for part, periods in zip(PARTS, (28, 4, 8), strict=True):
        of_users = getattr(log, part).group_by("user").len()["len"]
        assert set(of_users) == {21 * periods, 26 * periods}


def test_the_same_seed_gives_the_same_world(source: Source) -> None:
    other = read_trend(TrendWorld(seed=1))

    assert read_trend(WORLD).events.equals(source.events)
    assert not other.events.equals(source.events)
