"""The world of the many who want the opposite: what tells the group, and what does not."""

import numpy as np
import polars as pl
import pytest

from shared_models.contract.metrics import auc
from shared_models.logs.activity import by_activity, events_of_users
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog, targets
from shared_models.logs.worlds.activity import ActivityWorld, read_activity, wanted, worths

WORLD = ActivityWorld(members=12)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    return prepare(read_activity(WORLD), "user-tail", tmp_path_factory.mktemp("log") / "log")


def group_of(log: PreparedLog, user: pl.Series) -> np.ndarray:
    raw = log.user_table.sort("user")["raw"].cast(pl.Int64).to_numpy()
    return raw[user.to_numpy()] // WORLD.members


def test_the_same_seed_gives_the_same_world() -> None:
    one, two, other = (read_activity(ActivityWorld(members=2, seed=seed)) for seed in (3, 3, 4))

    assert one.events.equals(two.events)
    assert not one.events.equals(other.events)


def test_shares_of_requests_are_8_12_and_80_percent(log: PreparedLog) -> None:
    shown = targets(log.events)

    requests = np.bincount(group_of(log, shown["user"])) / len(shown)

    np.testing.assert_allclose(requests, [0.08, 0.12, 0.8])
    for part in (log.train, log.validation, log.test):
        assert set(group_of(log, targets(part)["user"])) == {0, 1, 2}


@pytest.mark.parametrize("groups", [3, 5, 8])
def test_groups_by_activity_are_those_of_the_world(log: PreparedLog, groups: int) -> None:
    users = pl.Series(np.arange(log.users))

    found_U = by_activity(events_of_users(log), groups)

    pairs = set(zip(found_U.tolist(), group_of(log, users).tolist(), strict=True))
    assert len(pairs) == 3
    assert [group for _, group in sorted(pairs)] == [0, 1, 2]


def test_the_newest_events_before_each_request_are_clicks(log: PreparedLog) -> None:
    events = log.events.with_columns(mere=pl.col("request") < 0)
    shown = events.filter(~pl.col("mere")).group_by("user", "request").agg(pl.col("seq").min())

    before = shown.join(events, on="user").filter(
        pl.col("seq") > pl.col("seq_right"), pl.col("seq") - pl.col("seq_right") <= 10
    )

    assert before["mere"].all()
    assert len(before) == 10 * len(shown)


def test_clicks_are_uniform_and_requests_show_different_items() -> None:
    events = read_activity(ActivityWorld()).events
    clicked = events.filter(pl.col("request").is_null())["item"].to_numpy()
    shown = events.filter(pl.col("request").is_not_null()).group_by("request")

    np.testing.assert_allclose(np.bincount(clicked, minlength=201)[1:], 187.5, atol=65)
    assert (shown.agg(pl.col("item").n_unique())["item"] == 5).all()


def test_worth_reaches_the_ceilings_and_its_sign_is_the_group() -> None:
    world = ActivityWorld(members=60)
    source = read_activity(world)
    shown = source.events.filter(pl.col("request").is_not_null())
    worth = worths(world)[shown["item"].to_numpy() - 1].astype(np.float32)
    tail = shown["user"].to_numpy() < 2 * world.members
    labels = shown["label"].to_numpy() > 0

    best = auc(np.where(tail, -worth, worth).astype(np.float32), labels)

    assert best == pytest.approx(source.truth["best_auc"], abs=0.005)
    assert auc(worth, labels) == pytest.approx(source.truth["blind_auc"], abs=0.005)
    assert auc(worth[tail], labels[tail]) == pytest.approx(
        source.truth["blind_tail_auc"], abs=0.005
    )
    assert auc(worth[~tail], labels[~tail]) == pytest.approx(source.truth["best_auc"], abs=0.005)


def test_the_ceilings_are_those_of_uniform_worths() -> None:
    truth = read_activity(ActivityWorld(members=1)).truth

    assert truth["best_auc"] == pytest.approx(0.9085, abs=2e-4)
    assert truth["blind_tail_auc"] == pytest.approx(1 - truth["best_auc"])


def test_chances_are_opposite_for_head_and_tail() -> None:
    items = np.arange(1, WORLD.items + 1)

    tail, head = (wanted(WORLD, items, np.full_like(items, user)) for user in (0, 35))

    np.testing.assert_allclose(tail + head, 1)
    assert head.max() > 0.98
