"""Matrix factorisation: cut as it says, and better than popularity where tastes differ."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_server.bpr import BprSettings, Parts, random_parts, run_bpr
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog
from shared_models.logs.source import Source

SETTINGS = BprSettings(width=8, learning_rate=0.02, rows=64, epochs=30, patience=10)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    """Even users take even items, odd users odd ones."""
    rng = np.random.default_rng(0)
    rows = [
        {"user": user, "item": 2 * int(item) + user % 2, "at": float(step)}
        for user in range(40)
        for step, item in enumerate(rng.permutation(40)[:20])
    ]
    folder = tmp_path_factory.mktemp("log") / "log"
    return prepare(Source("two tastes", pl.DataFrame(rows)), "user-tail", folder)


@given(st.lists(st.integers(1, 45), min_size=1, max_size=6), st.integers(0, 99))
def test_a_tenth_of_each_users_events_tests_and_a_tenth_validates(
    counts: list[int], seed: int
) -> None:
    user = np.repeat(np.arange(len(counts)), counts)

    part = random_parts(user, np.random.default_rng(seed))

    for number, count in enumerate(counts):
        sizes = np.bincount(part[user == number], minlength=3).tolist()
        assert sizes == [count - 2 * (count // 10), count // 10, count // 10]


def test_a_cut_is_random_and_repeats_with_its_seed() -> None:
    user = np.zeros(50, int)

    same, again, other = (random_parts(user, np.random.default_rng(seed)) for seed in (0, 0, 1))

    assert (same == again).all()
    assert (same != other).any()
    assert not (np.diff(same) >= 0).all()


def test_parts_share_nothing_and_no_item_is_known_from_the_start(log: PreparedLog) -> None:
    parts = Parts(log, np.random.default_rng(0))

    assert not (parts.known_UV & (parts.validation_UV | parts.test_UV)).any()
    assert not (parts.validation_UV & parts.test_UV).any()
    assert parts.known_UV[:, 0].all()
    assert parts.known_UV[:, 1:].sum() == len(parts.train)


def test_factors_find_tastes_that_popularity_does_not_see(log: PreparedLog) -> None:
    found = run_bpr(log, SETTINGS, seed=0)

    assert found["bpr"]["ndcg@10"] > 1.5 * found["popularity"]["ndcg@10"]
    assert "8:1:1" in found["protocol"]


def test_the_same_seed_gives_the_same_figures(log: PreparedLog) -> None:
    short = BprSettings(width=4, epochs=2)

    first, again, other = (run_bpr(log, short, seed) for seed in (3, 3, 4))

    assert first == again
    assert first["bpr"] != other["bpr"]
