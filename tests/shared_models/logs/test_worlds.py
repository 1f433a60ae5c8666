"""Known logs: the synthetic world's truth, and MovieLens when it is there."""

from pathlib import Path

import numpy as np
import pytest

from shared_models.contract.errors import BadLog, PathMissing
from shared_models.logs.movielens import read_movielens
from shared_models.logs.prepare import SOURCES
from shared_models.logs.worlds.groups import World, live, probabilities, read_synthetic


@pytest.mark.parametrize(
    "name", ["synthetic", "synthetic-activity", "synthetic-memory", "synthetic-trend"]
)
def test_a_world_is_found_by_its_name_and_knows_its_best(name: str) -> None:
    source = SOURCES[name]()

    assert source.name == name
    assert 0.5 <= source.truth["blind_auc"] < source.truth["best_auc"] < 1


def test_the_same_seed_gives_the_same_world() -> None:
    one, two, other = (read_synthetic(World(seed=seed)) for seed in (3, 3, 4))

    assert one.events.equals(two.events)
    assert not one.events.equals(other.events)


def test_the_true_probabilities_of_a_catalogue_sum_to_one() -> None:
    world = World()
    everything = np.tile(np.arange(1, world.items + 1), (2, 1))

    total = probabilities(world, everything, np.array([0, 3]), np.array([1, 0])).sum(axis=1)

    np.testing.assert_allclose(total, 1)


def test_lives_follow_the_stated_probabilities() -> None:
    world = World(users=400, noise=0.2)
    lives = live(world)

    taken = probabilities(world, lives.item[:, :1], lives.favourite[:, 0], lives.wanted[:, 0])

    # Only where genre and polarity are both as wanted is an item that likely.
    share = (taken > 0.5 / world.cell).mean()
    assert share == pytest.approx((0.8 + 0.2 / 5) * (0.8 + 0.2 / 2), abs=0.05)


def test_knowing_the_group_is_worth_something() -> None:
    truth = read_synthetic(World()).truth

    assert 0.5 < truth["blind_auc"] < truth["best_auc"] - 0.02 < 1


def test_a_noiseless_world_is_better_known() -> None:
    noisy, clear = (read_synthetic(World(noise=noise)).truth for noise in (0.3, 0.0))

    assert clear["best_auc"] > noisy["best_auc"] + 0.05


def test_a_named_folder_without_the_data_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCERTO_MOVIELENS", str(tmp_path))

    with pytest.raises(PathMissing, match=r"ml-100k\.inter"):
        read_movielens(tmp_path)


def test_other_data_under_the_known_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCERTO_MOVIELENS", str(tmp_path))
    for kind in ("inter", "user", "item"):
        (tmp_path / f"ml-100k.{kind}").write_text("user_id:token\n1\n")

    with pytest.raises(BadLog, match="MD5"):
        read_movielens(tmp_path)
