"""Metrics against scikit-learn and against what ties must be worth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from shared_models.contract.errors import RunFailed
from shared_models.contract.metrics import (
    Ranked,
    UserMetric,
    auc,
    bootstrap_interval,
    evaluate,
    mean_over_seeds,
    middle_ranks,
    paired_difference,
)

USERS, MOMENTS, CHOICE = 9, 60, 100


def ranked(seed: int = 0, levels: int = 40) -> Ranked:
    """Random rankings with many ties and a signal."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((MOMENTS, CHOICE), bool)
    labels[np.arange(MOMENTS), rng.integers(0, CHOICE, MOMENTS)] = True
    scores = rng.integers(0, levels, labels.shape) + 8 * labels
    user = rng.integers(0, USERS, MOMENTS)
    sizes = np.full(MOMENTS, CHOICE)
    return Ranked(user, sizes, labels.ravel(), scores.ravel().astype(np.float32))


def constant(like: Ranked) -> Ranked:
    return Ranked(like.user_M, like.sizes_M, like.labels_S, np.zeros_like(like.scores_S))


def test_auc_is_that_of_scikit_learn() -> None:
    data = ranked()

    expected = roc_auc_score(data.labels_S, data.scores_S)

    assert auc(data.scores_S, data.labels_S) == pytest.approx(expected, abs=1e-12)
    assert evaluate(data, USERS)["auc"].value == pytest.approx(expected, abs=1e-12)


def test_user_aucs_are_those_of_scikit_learn() -> None:
    data = ranked()
    own = [
        roc_auc_score(data.labels_S[data.user_S == user], data.scores_S[data.user_S == user])
        for user in range(USERS)
    ]
    shown = np.bincount(data.user_S)

    found = evaluate(data, USERS)

    assert found["uauc"].value == pytest.approx(np.mean(own))
    assert found["gauc"].value == pytest.approx(np.average(own, weights=shown))


def test_ndcg_is_that_of_scikit_learn() -> None:
    data = ranked(levels=10**6)
    shape = (MOMENTS, CHOICE)

    expected = ndcg_score(data.labels_S.reshape(shape), data.scores_S.reshape(shape), k=10)

    assert evaluate(data, USERS)["ndcg@10"].value == pytest.approx(expected)


def test_logloss_is_that_of_scikit_learn() -> None:
    raw = ranked()
    data = Ranked(raw.user_M, raw.sizes_M, raw.labels_S, raw.scores_S / 10 - 2)

    expected = log_loss(data.labels_S, 1 / (1 + np.exp(-data.scores_S.astype(np.float64))))

    assert evaluate(data, USERS)["logloss"].value == pytest.approx(expected, rel=1e-6)


def test_a_constant_model_gains_nothing_from_ties() -> None:
    found = evaluate(constant(ranked()), USERS)

    assert found["auc"].value == found["gauc"].value == 0.5
    assert found["hr@10"].value == pytest.approx(0.1)
    assert middle_ranks(constant(ranked())).tolist() == [50.5] * MOMENTS


def test_a_perfect_model_has_full_marks() -> None:
    data = ranked()
    perfect = Ranked(data.user_M, data.sizes_M, data.labels_S, data.labels_S.astype(np.float32))

    found = evaluate(perfect, USERS)

    assert [found[name].value for name in ("auc", "gauc", "hr@10", "ndcg@10", "mrr")] == [1] * 5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_candidates_and_moments_changes_nothing(seed: int) -> None:
    data, rng = ranked(), np.random.default_rng(seed)
    moments, within = rng.permutation(MOMENTS), rng.permutation(CHOICE)
    shuffled = Ranked(
        data.user_M[moments],
        data.sizes_M,
        data.labels_S.reshape(MOMENTS, CHOICE)[moments][:, within].ravel(),
        data.scores_S.reshape(MOMENTS, CHOICE)[moments][:, within].ravel(),
    )

    ours, theirs = evaluate(data, USERS), evaluate(shuffled, USERS)

    for name in ours:
        assert ours[name].value == pytest.approx(theirs[name].value, abs=1e-12)


def test_the_interval_of_the_pooled_auc_is_near_that_of_resampled_users() -> None:
    data = ranked()
    rng = np.random.default_rng(1)
    rows = [np.flatnonzero(data.user_S == user) for user in range(USERS)]
    exact = []
    for _ in range(300):
        chosen = np.concatenate([rows[user] for user in rng.integers(0, USERS, USERS)])
        exact.append(auc(data.scores_S[chosen], data.labels_S[chosen]))

    interval = bootstrap_interval(evaluate(data, USERS)["auc"], draws=2000)

    assert interval.low == pytest.approx(np.quantile(exact, 0.025), abs=0.01)
    assert interval.high == pytest.approx(np.quantile(exact, 0.975), abs=0.01)


def test_a_paired_difference_is_tighter_than_two_intervals() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0.5, 0.2, 200)
    ones = np.ones(200)
    theirs, ours = UserMetric(base, ones), UserMetric(base + rng.normal(0.02, 0.01, 200), ones)

    difference = paired_difference(ours, theirs)

    assert 0.015 < difference.low < difference.mean < difference.high < 0.025


def test_the_mean_over_seeds_is_the_mean_of_the_seeds() -> None:
    seeds = [evaluate(ranked(seed), USERS)["auc"] for seed in (0, 1)]

    averaged = mean_over_seeds([seeds[0], seeds[0]])

    assert averaged.value == seeds[0].value
    assert mean_over_seeds(seeds).value == pytest.approx(np.mean([m.value for m in seeds]))


def test_a_moment_in_which_nothing_was_taken_counts_nowhere_but_in_auc() -> None:
    labels = np.array([True, False, False, False])
    data = Ranked(np.array([0, 0]), np.array([2, 2]), labels, np.array([2, 1, 3, 0], np.float32))

    found = evaluate(data, 1)

    assert found["hr@10"].denominator_U.sum() == 1
    assert found["auc"].value == pytest.approx(2 / 3)


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused_and_never_left_out(score: float) -> None:
    data = ranked()
    scores = np.where(np.arange(len(data.scores_S)) == np.argmax(data.labels_S), score, 0)

    with pytest.raises(RunFailed, match="1 of 6000 scores"):
        evaluate(Ranked(data.user_M, data.sizes_M, data.labels_S, scores.astype(np.float32)), USERS)


def test_users_who_are_not_counted_change_no_interval() -> None:
    few = UserMetric(np.array([0.2, 0.5, 0.9]), np.ones(3))
    among_many = UserMetric(
        np.append(few.numerator_U, np.zeros(297)), np.append(np.ones(3), np.zeros(297))
    )

    assert bootstrap_interval(among_many) == bootstrap_interval(few)
    assert paired_difference(among_many, among_many) == paired_difference(few, few)
