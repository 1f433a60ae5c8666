"""Torch alone scores what a replay asks for, whatever the candidates are."""

import numpy as np
import pytest
import torch

from cloud_server import evaluate as module
from cloud_server.checkpoints import Trained
from cloud_server.evaluate import evaluate, predictions, score_moments
from shared_models.catalog import load_method, resolve
from shared_models.contract.errors import UnknownName
from shared_models.logs.moments import FULL, SHORTLIST, replay_moments
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog
from shared_models.logs.worlds.groups import World, read_synthetic


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    world = World(users=12, events=20, genres=3, cell=8)
    return prepare(read_synthetic(world), "leave-one-out", tmp_path_factory.mktemp("log") / "log")


@pytest.fixture(scope="module")
def trained(log: PreparedLog) -> Trained:
    method = load_method("base", resolve("base", log.items, "gru4rec", {}))
    return Trained(method, method.build(seed=0).eval(), log.hash, 0)


@pytest.mark.parametrize(
    ("candidates", "words"),
    [(FULL, "full catalogue, history not masked"), (SHORTLIST, "never-touched")],
)
def test_an_evaluation_says_what_it_ranked(
    trained: Trained, log: PreparedLog, candidates: str, words: str
) -> None:
    found = evaluate(trained, log, data_seed=0, candidates=candidates)

    assert words in found["protocol"]
    assert 0 <= found["ndcg@10"]["mean"] <= found["hr@10"]["mean"] <= 1


def test_predictions_over_the_catalogue_hold_every_item_once(
    trained: Trained, log: PreparedLog
) -> None:
    frame = predictions(trained, log, data_seed=0, candidates=FULL)

    by_user = frame.group_by("user").agg("item", "label")
    assert len(by_user) == log.users
    assert all(sorted(items) == list(range(1, log.items + 1)) for items in by_user["item"])
    assert frame["label"].sum() == log.users


def test_how_many_are_scored_together_changes_no_score(
    trained: Trained, log: PreparedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    moments = replay_moments(log, FULL)
    together = score_moments(trained, log, moments, age=0)
    monkeypatch.setattr(module, "_MOST_SCORES", 1)

    one_by_one = score_moments(trained, log, moments, age=0)

    np.testing.assert_allclose(one_by_one, together, atol=1e-6)


def test_unknown_candidates_are_told_the_nearest_name(trained: Trained, log: PreparedLog) -> None:
    with pytest.raises(UnknownName, match="did you mean 'full'"):
        evaluate(trained, log, data_seed=0, candidates="ful")
