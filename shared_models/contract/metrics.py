"""Ranking metrics, each as a ratio of sums over users, so that one bootstrap serves them all.

A metric is ``sum(numerator_U) / sum(denominator_U)``. Intervals and paired differences draw users
with replacement. Ties count by what they are worth on average: a constant model has AUC 0.5 and,
among 100 candidates, a hit rate at 10 of 0.1.
"""

# Shapes: U users, M moments, S candidates of all moments together.

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared_models.contract.errors import RunFailed
from shared_models.contract.tensors import Float32Array, Int64Array

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

DRAWS: Final = 1000
_CUTOFF: Final = 10
_BLOCK: Final = 1_000_000
"""Candidates looked at together; bounds the memory of what is in between."""


@dataclass(frozen=True, slots=True)
class UserMetric:
    """A metric, by user.

    Attributes:
        numerator_U: float64.
        denominator_U: float64, at least 0.
    """

    numerator_U: Float64Array
    denominator_U: Float64Array

    def __add__(self, other: "UserMetric") -> "UserMetric":
        """Both users' shares together."""
        return UserMetric(
            self.numerator_U + other.numerator_U, self.denominator_U + other.denominator_U
        )

    @property
    def value(self) -> float:
        """The metric over all users."""
        return float(self.numerator_U.sum() / self.denominator_U.sum())


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval over users."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """What is evaluated: scores of candidates, grouped by moment, moments by user.

    Attributes:
        user_M: int64, 0 to U-1.
        sizes_M: int64, candidates of each moment.
        labels_S: bool, true where the user took it.
        scores_S: float32.
    """

    user_M: Int64Array
    sizes_M: Int64Array
    labels_S: BoolArray
    scores_S: Float32Array

    @property
    def user_S(self) -> Int64Array:
        """The user of each candidate."""
        return np.repeat(self.user_M, self.sizes_M)


def auc(scores: Float32Array, labels: BoolArray) -> float:
    """P(positive above negative) + half of P(equal), over all pairs; nan where a class lacks."""
    positives, negatives = scores[labels], np.sort(scores[~labels])
    if not len(positives) or not len(negatives):
        return float("nan")
    return float(_share_below(positives, negatives).mean())


def evaluate(ranked: Ranked, users: int) -> dict[str, UserMetric]:
    """All metrics by name.

    ``auc`` is pooled over all candidates of all users; ``gauc`` weighs each user's own AUC by the
    candidates shown, ``uauc`` weighs users alike, both over users who have both classes; ``hr@10``,
    ``ndcg@10`` and ``mrr`` are means over moments, by the best taken candidate; ``logloss`` over
    candidates. Users are taken block by block, so that memory is bounded by the scores.

    Raises:
        RunFailed: a score is not finite; no rank could be trusted.
    """
    wrong = np.count_nonzero(~np.isfinite(ranked.scores_S))
    if wrong:
        raise RunFailed(f"{wrong} of {len(ranked.scores_S)} scores are not finite")
    pool = _Pool(ranked, users)
    sums: dict[str, UserMetric] = {}
    for block in _blocks(ranked):
        pool.add(block)
        for name, part in _of_block(block, users).items():
            sums[name] = sums[name] + part if name in sums else part
    return {"auc": pool.metric(), **sums}


def bootstrap_interval(metric: UserMetric, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """The metric with the 2.5 % and 97.5 % quantiles over users drawn with replacement."""
    return _interval(metric.value, _resampled(metric, metric.denominator_U > 0, draws, seed))


def paired_difference(
    ours: UserMetric, theirs: UserMetric, *, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """``ours`` minus ``theirs``, both over the same drawn users."""
    counted_U = (ours.denominator_U > 0) & (theirs.denominator_U > 0)
    our_draws, their_draws = (_resampled(m, counted_U, draws, seed) for m in (ours, theirs))
    return _interval(ours.value - theirs.value, our_draws - their_draws)


def mean_over_seeds(metrics: Sequence[UserMetric]) -> UserMetric:
    """One metric from those of several seeds over the same users and moments."""
    total = sum(metrics[1:], start=metrics[0])
    return UserMetric(total.numerator_U / len(metrics), total.denominator_U / len(metrics))


def middle_ranks(ranked: Ranked) -> Float64Array:
    """Rank of each moment's best taken candidate, from 1, the middle one of ties; (M,)."""
    above_M, equal_M, _ = _around_taken(ranked)
    return 1 + above_M + (equal_M - 1) / 2


def _share_below(of: Float32Array, among: Float32Array) -> Float64Array:
    """The share of ``among``, which is sorted, below each of ``of``; equal ones count a half."""
    below = np.searchsorted(among, of, "left") + np.searchsorted(among, of, "right")
    return (below / (2.0 * len(among))).astype(np.float64, copy=False)


def _blocks(ranked: Ranked) -> Iterator[Ranked]:
    """``ranked`` in pieces that hold all of some users."""
    order_M = np.argsort(ranked.user_M, kind="stable")
    user_M = ranked.user_M[order_M]
    ends_M, filled_M = np.cumsum(ranked.sizes_M), np.cumsum(ranked.sizes_M[order_M])
    start = 0
    while start < len(order_M):
        before = filled_M[start] - ranked.sizes_M[order_M[start]]
        full = int(np.searchsorted(filled_M, before + _BLOCK))
        stop = int(np.searchsorted(user_M, user_M[min(full, len(user_M) - 1)], "right"))
        chosen_M = order_M[start:stop]
        sizes_M = ranked.sizes_M[chosen_M]
        rows_S = _rows(ends_M[chosen_M], sizes_M)
        labels_S, scores_S = ranked.labels_S[rows_S], ranked.scores_S[rows_S]
        yield Ranked(user_M[start:stop], sizes_M, labels_S, scores_S)
        start = stop


def _rows(ends: Int64Array, sizes: Int64Array) -> Int64Array:
    """Indices of runs that end before ``ends``, one run after the other."""
    before = np.cumsum(sizes) - sizes
    rows: Int64Array = np.repeat(ends - sizes - before, sizes) + np.arange(int(sizes.sum()))
    return rows


def _of_block(ranked: Ranked, users: int) -> dict[str, UserMetric]:
    own_U, shown_U = _user_aucs(ranked, users)
    judged_U = np.isfinite(own_U)
    own_U = np.where(judged_U, own_U, 0.0)
    weight_U = np.where(judged_U, shown_U, 0.0)
    return {
        "gauc": UserMetric(own_U * weight_U, weight_U),
        "uauc": UserMetric(own_U, judged_U.astype(np.float64)),
        **_by_moment(ranked, users),
        "logloss": _logloss(ranked, users),
    }


class _Pool:
    """The pooled AUC as a mean of user pseudo-values.

    The AUC is a two-sample U-statistic; to first order a user moves it by the placements of their
    own candidates less the mean (the infinitesimal jackknife). The mean of the pseudo-values is
    the AUC exactly; resampling them is the user bootstrap to first order.
    """

    def __init__(self, ranked: Ranked, users: int) -> None:
        self._users = users
        self._positives = np.sort(ranked.scores_S[ranked.labels_S])
        self._negatives = np.sort(ranked.scores_S[~ranked.labels_S])
        self._above_U, self._below_U = np.zeros(users), np.zeros(users)
        self._taken_U, self._other_U = np.zeros(users), np.zeros(users)

    def add(self, ranked: Ranked) -> None:
        """Add up the placements of some users' candidates."""
        if not len(self._positives) or not len(self._negatives):
            return
        user_S, taken_S = ranked.user_S, ranked.labels_S
        above_P = _share_below(ranked.scores_S[taken_S], self._negatives)
        below_N = 1 - _share_below(ranked.scores_S[~taken_S], self._positives)
        self._above_U += _sum_by(user_S[taken_S], above_P, self._users)
        self._below_U += _sum_by(user_S[~taken_S], below_N, self._users)
        self._taken_U += np.bincount(user_S[taken_S], minlength=self._users)
        self._other_U += np.bincount(user_S[~taken_S], minlength=self._users)

    def metric(self) -> UserMetric:
        """The pseudo-values of all users that were added."""
        present_U = (self._taken_U + self._other_U) > 0
        if not present_U.any():
            return UserMetric(np.zeros(self._users), np.zeros(self._users))
        pooled = self._above_U.sum() / len(self._positives)
        of_positives_U = (self._above_U - pooled * self._taken_U) / len(self._positives)
        of_negatives_U = (self._below_U - pooled * self._other_U) / len(self._negatives)
        pseudo_U = pooled + (of_positives_U + of_negatives_U) * present_U.sum()
        return UserMetric(np.where(present_U, pseudo_U, 0.0), present_U.astype(np.float64))


def _user_aucs(ranked: Ranked, users: int) -> tuple[Float64Array, Float64Array]:
    """Each user's own AUC (nan where a class lacks) and the number of candidates shown to them."""
    user_S = ranked.user_S
    order = np.lexsort((ranked.scores_S, user_S))
    user, score, label = user_S[order], ranked.scores_S[order], ranked.labels_S[order]
    rank = _middle_positions(user, score)
    shown_U = np.bincount(user, minlength=users).astype(np.float64)
    taken_U = np.bincount(user[label], minlength=users).astype(np.float64)
    start_U = np.cumsum(shown_U) - shown_U
    rank_sum_U = np.bincount(user[label], (rank - start_U[user])[label], users)
    with np.errstate(invalid="ignore", divide="ignore"):
        own_U = (rank_sum_U - taken_U * (taken_U + 1) / 2) / (taken_U * (shown_U - taken_U))
    return np.where((taken_U > 0) & (taken_U < shown_U), own_U, np.nan), shown_U


def _middle_positions(user: Int64Array, score: Float32Array) -> Float64Array:
    """Positions from 1 in arrays sorted by (user, score); equal ones share their middle."""
    new = np.ones(len(user), bool)
    new[1:] = (user[1:] != user[:-1]) | (score[1:] != score[:-1])
    group = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    sizes = np.diff(np.append(starts, len(user)))
    middle: Float64Array = (starts + (sizes + 1) / 2)[group]
    return middle


def _by_moment(ranked: Ranked, users: int) -> Mapping[str, UserMetric]:
    above_M, equal_M, taken_M = _around_taken(ranked)
    counted_M = taken_M.astype(np.float64)
    # The taken one of E equal candidates stands at each of their places with the same chance.
    in_top_M = np.clip((_CUTOFF - above_M) / equal_M, 0, 1)
    discount = np.append(0, np.cumsum(1 / np.log2(np.arange(2, _CUTOFF + 2))))
    first_M = np.clip(above_M, 0, _CUTOFF).astype(np.int64)
    last_M = np.clip(above_M + equal_M, 0, _CUTOFF).astype(np.int64)
    gain_M = (discount[last_M] - discount[first_M]) / equal_M
    reciprocal_M = 1 / (1 + above_M + (equal_M - 1) / 2)

    def metric(value_M: Float64Array) -> UserMetric:
        numerator_U = _sum_by(ranked.user_M, value_M * counted_M, users)
        return UserMetric(numerator_U, _sum_by(ranked.user_M, counted_M, users))

    return {"hr@10": metric(in_top_M), "ndcg@10": metric(gain_M), "mrr": metric(reciprocal_M)}


def _around_taken(ranked: Ranked) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Candidates above and equal to the best taken one of each moment, and whether there is one."""
    starts_M = np.cumsum(ranked.sizes_M) - ranked.sizes_M
    taken_S = np.where(ranked.labels_S, ranked.scores_S, -np.inf)
    best_M = np.maximum.reduceat(taken_S, starts_M)
    best_S = np.repeat(best_M, ranked.sizes_M)
    other_S = ~ranked.labels_S
    above_M = np.add.reduceat((ranked.scores_S > best_S) & other_S, starts_M, dtype=np.float64)
    equal_M = np.add.reduceat((ranked.scores_S == best_S) & other_S, starts_M, dtype=np.float64)
    return above_M, equal_M + 1, np.isfinite(best_M)


def _logloss(ranked: Ranked, users: int) -> UserMetric:
    logits = np.where(ranked.labels_S, 1.0, -1.0) * ranked.scores_S.astype(np.float64)
    loss_U = _sum_by(ranked.user_S, np.logaddexp(0, -logits), users)
    return UserMetric(loss_U, np.bincount(ranked.user_S, minlength=users).astype(np.float64))


def _sum_by(user: Int64Array, value: Float64Array, users: int) -> Float64Array:
    return np.bincount(user, value, users).astype(np.float64)


def _resampled(metric: UserMetric, counted_U: BoolArray, draws: int, seed: int) -> Float64Array:
    """Values over users drawn from those that count; a draw of others only would be 0/0."""
    rng, users = np.random.default_rng(seed), int(counted_U.sum())
    above, below = metric.numerator_U[counted_U], metric.denominator_U[counted_U]
    chosen = (rng.integers(0, users, users) for _ in range(draws))
    return np.array([above[drawn].sum() / below[drawn].sum() for drawn in chosen])


def _interval(mean: float, values: Float64Array) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(mean, float(low), float(high))
