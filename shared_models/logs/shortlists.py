"""Short lists of candidates: what was taken, among items that the user never touches."""

from itertools import pairwise
from typing import Final

import numpy as np

from shared_models.contract.tensors import Int64Array
from shared_models.logs.prepared import PreparedLog

NEGATIVES: Final = 99
"""Beside one item taken."""


def touched(log: PreparedLog) -> list[Int64Array]:
    """The distinct items of each user, anywhere in the log."""
    events = log.events
    user = events["user"].to_numpy()
    item = events["item"].to_numpy().astype(np.int64)
    starts = np.searchsorted(user, np.arange(log.users + 1))
    return [np.unique(item[a:b]) for a, b in pairwise(starts)]


def shortlist(
    user: int, seq: int, taken: Int64Array, touched: Int64Array, items: int, data_seed: int
) -> Int64Array:
    """The items taken and never-touched ones, 100 together where there are so many, shuffled.

    Keyed by (data seed, user, seq): the same whoever asks, in whatever order.
    """
    rng = np.random.Generator(np.random.Philox(key=[data_seed, (user << 32) | seq]))
    free = items - len(touched)
    count = min(1 + NEGATIVES - len(taken), free)
    # The r-th never-touched item is r plus the touched ones at or below it.
    ranks = _distinct(rng, free, count)
    negatives = ranks + 1 + np.searchsorted(touched - 1 - np.arange(len(touched)), ranks, "right")
    return rng.permutation(np.append(negatives, taken))


def _distinct(rng: np.random.Generator, below: int, count: int) -> Int64Array:
    """``count`` distinct uniform numbers below ``below``."""
    if 3 * count >= below:
        return rng.permutation(below)[:count]
    drawn: Int64Array = np.zeros(0, np.int64)
    while len(drawn) < count:
        more = np.append(drawn, rng.integers(0, below, count))
        _, first = np.unique(more, return_index=True)
        drawn = more[np.sort(first)][:count]
    return drawn
