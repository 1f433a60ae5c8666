"""Lists of several relevant items: checked by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from shared_models.contract.top_k import top_k_metrics


def table(*rows: list[int]) -> np.ndarray:
    return np.array(rows, bool)


def test_a_list_is_judged_by_what_it_could_have_held() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.1]], np.float32)
    relevant, nothing = table([0, 1, 0, 1]), table([0, 0, 0, 0])

    found = top_k_metrics(scores, relevant, nothing, k=3)

    ideal = 1 + 1 / np.log2(3)
    assert found == pytest.approx(
        {"hit@3": 1.0, "recall@3": 0.5, "ndcg@3": (1 / np.log2(3)) / ideal, "mrr@3": 0.5}
    )


def test_what_was_seen_is_not_ranked_and_cannot_be_found() -> None:
    scores = np.array([[0.9, 0.8, 0.7], [0.9, 0.8, 0.7]], np.float32)
    relevant, seen = table([1, 0, 1], [1, 0, 0]), table([1, 1, 0], [1, 0, 0])

    found = top_k_metrics(scores, relevant, seen, k=1)

    # The second user has nothing left to find and does not count.
    assert set(found.values()) == {1.0}


def test_a_miss_is_worth_nothing() -> None:
    scores = np.array([[0.9, 0.8, 0.7]], np.float32)

    found = top_k_metrics(scores, table([0, 0, 1]), table([0, 0, 0]), k=2)

    assert set(found.values()) == {0.0}


def test_ndcg_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(30.0, dtype=np.float32), (40, 1)), axis=1)
    relevant = rng.random((40, 30)) < 0.4

    found = top_k_metrics(scores, relevant, np.zeros_like(relevant))

    assert found["ndcg@10"] == pytest.approx(ndcg_score(relevant, scores, k=10))
