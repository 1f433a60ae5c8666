"""The world of long memory: its closed forms, and a log that says what they assume."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shared_models.contract.metrics import auc
from shared_models.contract.tensors import Int64Array
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PARTS
from shared_models.logs.source import Source
from shared_models.logs.worlds.memory import Lives, MemoryWorld, live, read_memory

WORLD = MemoryWorld()


@pytest.fixture(scope="module")
def source() -> Source:
    return read_memory(WORLD)


@pytest.fixture(scope="module")
def lives() -> Lives:
    return live(WORLD)


def auc_of(source: Source, *topics_UK: Int64Array) -> float:
    """The AUC over all requests of knowing some topics of each user and phase."""
    shown = source.events.filter(pl.col("request").is_not_null())
    topic, request = WORLD.topics.of(shown["item"].to_numpy()), shown["request"].to_numpy()
    known = [topics.ravel()[request] == topic for topics in topics_UK]
    return auc(np.any(known, axis=0).astype(np.float32), shown["label"].to_numpy() > 0)


def test_the_truth_is_that_of_the_closed_forms(source: Source) -> None:
    assert source.truth == {"best_auc": 0.875, "stale_auc": 0.765625, "blind_auc": 0.6875}


def test_who_knows_session_and_taste_is_as_good_as_can_be(source: Source, lives: Lives) -> None:
    found = auc_of(source, lives.session, lives.taste[:, 1:])

    assert found == pytest.approx(0.875, abs=0.01)


def test_who_knows_the_session_only_is_blind_to_the_taste(source: Source, lives: Lives) -> None:
    assert auc_of(source, lives.session) == pytest.approx(0.6875, abs=0.01)


def test_who_believes_the_taste_of_the_phase_before_is_stale(source: Source, lives: Lives) -> None:
    found = auc_of(source, lives.session, lives.taste[:, :-1])

    assert found == pytest.approx(0.765625, abs=0.01)


def test_a_session_is_neither_taste_and_uniform_else(lives: Lives) -> None:
    now, before = lives.taste[:, 1:], lives.taste[:, :-1]

    assert not ((lives.session == now) | (lives.session == before)).any()
    alone = lives.session[(now == 0) & (before == 0)]
    np.testing.assert_allclose(np.bincount(alone)[1:] / len(alone), 1 / 7, atol=0.05)
    assert (now == before).mean() == pytest.approx(0.5625, abs=0.01)


def test_each_request_follows_thirty_clicks_by_taste_and_ten_by_session(
    source: Source, lives: Lives
) -> None:
    events = source.events.sort("user", "at", maintain_order=True)

    rows = events.select("item", pl.col("request").is_not_null()).rows()
    by_phase = np.array(rows).reshape(WORLD.users, WORLD.phases, 45, 2)
    topic = WORLD.topics.of(by_phase[..., 0])
    assert not by_phase[:, :, :40, 1].any()
    assert by_phase[:, :, 40:, 1].all()
    assert (topic[:, :, 30:40] == lives.session[..., None]).all()
    own = topic[:, :, :30] == lives.taste[:, 1:, None]
    assert own.mean() == pytest.approx(0.5625, abs=0.01)


@pytest.mark.parametrize("split", ["user-tail", "global-time"])
def test_both_splits_cut_between_phases(source: Source, split: str, tmp_path: Path) -> None:
    log = prepare(source, split, tmp_path / "log")

    assert log.task == "labelled-exposures"
    for part, phases in zip(PARTS, (14, 2, 4), strict=True):
        of_users = getattr(log, part).group_by("user").len()["len"]
        assert of_users.to_list() == [45 * phases] * WORLD.users


def test_the_same_seed_gives_the_same_world(source: Source) -> None:
    other = read_memory(MemoryWorld(seed=1))

    assert read_memory(WORLD).events.equals(source.events)
    assert not other.events.equals(source.events)
