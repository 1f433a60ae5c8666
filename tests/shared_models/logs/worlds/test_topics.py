"""Topics and requests: what closed forms rest on."""

import numpy as np
import pytest

from shared_models.contract.metrics import auc
from shared_models.logs.worlds.topics import Topics, clicks, two_level_auc

TOPICS = Topics()


def test_a_request_shows_five_different_items_of_which_one_is_taken() -> None:
    taken_topic = np.random.default_rng(0).integers(0, 8, 5000)

    requests = TOPICS.requests(taken_topic, np.random.default_rng(1))

    assert all(len(set(row)) == 5 for row in requests.item_RC.tolist())
    assert (requests.taken_RC.sum(axis=1) == 1).all()
    assert (TOPICS.of(requests.item_RC[requests.taken_RC]) == taken_topic).all()
    assert set(np.argmax(requests.taken_RC, axis=1)) == {0, 1, 2, 3, 4}


def test_what_is_not_taken_is_of_uniform_topics_whatever_is_taken() -> None:
    requests = TOPICS.requests(np.full(20_000, 3), np.random.default_rng(0))

    others = TOPICS.of(requests.item_RC[~requests.taken_RC])

    np.testing.assert_allclose(np.bincount(others) / len(others), 1 / 8, atol=0.005)


def test_items_of_a_topic_are_equally_likely() -> None:
    requests = TOPICS.requests(np.full(20_000, 3), np.random.default_rng(0))

    taken = requests.item_RC[requests.taken_RC]

    assert set(taken) == set(range(76, 101))
    np.testing.assert_allclose(np.bincount(taken)[76:] / len(taken), 1 / 25, atol=0.01)


def test_topics_around_one_are_it_or_uniform() -> None:
    drawn = TOPICS.around(np.full(50_000, 2), 0.5, np.random.default_rng(0))

    expected = np.where(np.arange(8) == 2, 0.5 + 0.5 / 8, 0.5 / 8)
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), expected, atol=0.01)


def test_the_auc_of_two_levels_is_that_of_the_metric() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(200_000) < 0.2
    scores = (rng.random(len(labels)) < np.where(labels, 0.7, 0.3)).astype(np.float32)

    assert auc(scores, labels) == pytest.approx(two_level_auc(0.7, 0.3), abs=0.005)


def test_events_of_requests_are_exposures_and_clicks_are_behaviour() -> None:
    requests = TOPICS.requests(np.array([0, 1]), np.random.default_rng(0))

    shown = requests.events(np.array([7, 8]), np.array([1.0, 2.0]))
    mere = clicks(np.array([[7], [8]]), np.array([[1, 2], [3, 4]]), np.array([[1.0, 2.0]]))

    assert shown["user"].to_list() == [7] * 5 + [8] * 5
    assert shown["request"].to_list() == [0] * 5 + [1] * 5
    assert shown["label"].sum() == 2
    assert mere.rows() == [
        (7, 1, 1.0, 1, None),
        (7, 2, 2.0, 1, None),
        (8, 3, 1.0, 1, None),
        (8, 4, 2.0, 1, None),
    ]
    assert mere.schema == shown.schema
