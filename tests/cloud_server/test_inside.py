"""Moments inside sessions: which there are, and what a batch of them holds."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from cloud_server.dataset import Dataset
from cloud_server.inside import Inside
from shared_models.catalog import resolve
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog
from shared_models.logs.source import Source

USERS, DAYS, LENGTH, AHEAD = 6, 20, 5, 3


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    """Twenty sessions of five events; every item of a user is another one, in order."""
    rows = [
        {"user": user, "item": 1000 * user + LENGTH * day + step, "at": 86400.0 * day + 60 * step}
        for user in range(USERS)
        for day in range(DAYS)
        for step in range(LENGTH)
    ]
    folder: Path = tmp_path_factory.mktemp("log")
    return prepare(Source("days", pl.DataFrame(rows)), "user-tail", folder / "log")


@pytest.fixture(scope="module")
def dataset(log: PreparedLog) -> Dataset:
    config = resolve("mcrec", log.items, "pool", {"mcrec": {"cloud_window": 6, "horizon": AHEAD}})
    return Dataset(log, config, torch.device("cpu"))


def test_only_moments_of_the_validation_part_that_have_a_list_already_count(
    log: PreparedLog,
) -> None:
    inside = Inside.of(log)

    items = inside.behaviour.taken_N[inside.now_R]
    validated = set(log.validation["item"].to_list())
    assert set(items.tolist()) <= validated
    # Of five events of a session, all but the first.
    assert len(items) == pytest.approx(0.8 * len(validated), abs=USERS)


def test_a_history_ends_with_the_exposures_that_are_left_in_the_session(dataset: Dataset) -> None:
    for batch in dataset.sessions(np.random.default_rng(0), 16, AHEAD):
        assert batch.since_B is not None
        assert batch.left_B is not None
        place = batch.since_B
        assert torch.equal(batch.left_B, (LENGTH - place).clamp(max=AHEAD))
        newest_B = batch.history_BH[:, -1]
        # Items of a user are numbered in order, so the place in the session can be read off.
        assert torch.equal((newest_B - 1) % LENGTH, place + batch.left_B - 1)


def test_each_moment_comes_once_an_epoch_in_an_order_of_chance(
    dataset: Dataset, log: PreparedLog
) -> None:
    first, again, other = (
        torch.cat(
            [batch.history_BH for batch in dataset.sessions(np.random.default_rng(seed), 16, AHEAD)]
        )
        for seed in (0, 0, 1)
    )

    assert len(first) == len(Inside.of(log).now_R)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert sorted(first.tolist()) == sorted(other.tolist())


@pytest.mark.parametrize("limit", [7, 10_000])
def test_an_epoch_holds_each_moment_as_often_as_asked_for_and_no_more_than_the_most(
    dataset: Dataset, log: PreparedLog, limit: int
) -> None:
    batches = dataset.sessions(np.random.default_rng(0), 16, AHEAD, passes=3, most=limit)

    held = sum(len(batch.history_BH) for batch in batches)
    assert held == min(limit, 3 * len(Inside.of(log).now_R))
