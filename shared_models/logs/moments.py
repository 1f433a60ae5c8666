"""The moments of a log at which a device ranks, with their candidates and what the user took."""

# Shapes: M moments, S candidates of all moments together, C of the largest one, K clicks.

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shared_models.contract.errors import BadSetting, UnknownName
from shared_models.contract.tensors import Int64Array
from shared_models.logs.prepared import Part, PreparedLog, targets
from shared_models.logs.splits import split_named

NEGATIVES: Final = 99
SHORTLIST: Final = "shortlist-100"
FULL: Final = "full"
CANDIDATES: Final = (SHORTLIST, FULL)
_MOST_SCORES: Final = 200_000_000


@dataclass(frozen=True, slots=True)
class Clicks:
    """What users took without having been shown anything, in order of virtual time.

    Attributes:
        user: int64 (K,).
        at: float64 (K,), seconds.
        seq: int64 (K,), number of the event in the user's life.
        item: int64 (K,).
        place: int64 (K,), how many moments come before; there is always one after.
    """

    user: Int64Array
    at: NDArray[np.float64]
    seq: Int64Array
    item: Int64Array
    place: Int64Array

    @classmethod
    def none(cls) -> "Clicks":
        """Of a log that knows only what was shown, or only what was taken."""
        empty = np.zeros(0, np.int64)
        return cls(empty, np.zeros(0), empty, empty, empty)

    def __len__(self) -> int:
        return len(self.user)

    def between(self, start: int, stop: int) -> "Clicks":
        """Those before moments ``start`` to ``stop - 1``, placed among these."""
        own = slice(*np.searchsorted(self.place, [start, stop]).tolist())
        place = self.place[own] - start
        return Clicks(self.user[own], self.at[own], self.seq[own], self.item[own], place)


@dataclass(frozen=True, slots=True)
class Moments:
    """Ranking tasks in order of virtual time, and what users took by themselves before them.

    Attributes:
        user: int64 (M,).
        at: float64 (M,), seconds.
        seq: int64 (M,), number of the (first) event in the user's life.
        sizes: int64 (M,), candidates of each moment.
        candidates: int64 (S,), shuffled within each moment, one moment after the other.
        labels: bool (S,), true where the user took it.
        clicks: behaviour that only becomes history.
    """

    user: Int64Array
    at: NDArray[np.float64]
    seq: Int64Array
    sizes: Int64Array
    candidates: Int64Array
    labels: NDArray[np.bool_]
    clicks: Clicks = field(default_factory=Clicks.none)

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, chosen: slice) -> "Moments":
        """Consecutive moments, with the clicks between them and just before."""
        start, stop, _ = chosen.indices(len(self))
        ends = np.concatenate([[0], np.cumsum(self.sizes)])
        rows = slice(int(ends[start]), int(ends[max(start, stop)]))
        return Moments(
            self.user[chosen],
            self.at[chosen],
            self.seq[chosen],
            self.sizes[chosen],
            self.candidates[rows],
            self.labels[rows],
            self.clicks.between(start, stop),
        )

    def padded(self) -> tuple[Int64Array, NDArray[np.bool_]]:
        """Candidates as int64 (M, C), 0 where a moment has fewer, and which are real."""
        known_MC = np.arange(self.sizes.max(initial=1)) < self.sizes[:, None]
        padded_MC = np.zeros(known_MC.shape, np.int64)
        padded_MC[known_MC] = self.candidates
        return padded_MC, known_MC


def replay_moments(
    log: PreparedLog, candidates: str = SHORTLIST, *, data_seed: int = 0, part: Part = "test"
) -> Moments:
    """The moments of one part.

    In a next-item log each event that has a history is a moment: the item taken, among ``99``
    uniform ones that its user never takes anywhere in the log (or the full catalogue). In a log
    of labelled exposures each request is one, with the items that were shown; mere behaviour is
    none, and stands in ``clicks``.

    Raises:
        UnknownName: ``candidates`` is neither ``shortlist-100`` nor ``full``.
        BadSetting: the full catalogue at every moment would be too many scores to hold.
    """
    if candidates not in CANDIDATES:
        raise UnknownName("candidates", candidates, CANDIDATES)
    events = {"train": log.train, "validation": log.validation, "test": log.test}[part]
    if log.task == "labelled-exposures":
        moments = _in_time(_shown(targets(events)))
        return replace(moments, clicks=_clicks(events, moments))
    with_history = events.filter(pl.col("seq") > 0)
    if candidates == FULL:
        return _in_time(_catalogue(with_history, log.items))
    return _in_time(_shortlists(with_history, _touched(log), log.items, data_seed))


def protocol_name(log: PreparedLog, candidates: str, data_seed: int) -> str:
    """One line that says how the figures beside it were taken."""
    if log.task == "labelled-exposures":
        shown = "candidates as shown"
    elif candidates == FULL:
        shown = "full catalogue, history not masked"
    else:
        shown = f"shortlist-100: 1 taken + {NEGATIVES} never-touched, data seed {data_seed}"
    about = log.manifest
    shares = split_named(about.split).shares
    return (
        f"{about.name} ({about.hash[:8]}), {about.task}, {about.split} {shares}, {shown}, "
        f"ties mid-rank; the split leaks: {about.leaks}"
    )


def _touched(log: PreparedLog) -> list[Int64Array]:
    """The distinct items of each user, anywhere in the log."""
    events = log.events
    user = events["user"].to_numpy()
    item = events["item"].to_numpy().astype(np.int64)
    starts = np.searchsorted(user, np.arange(log.users + 1))
    return [np.unique(item[a:b]) for a, b in pairwise(starts)]


def _shortlists(
    targets: pl.DataFrame, touched: list[Int64Array], items: int, data_seed: int
) -> Moments:
    user, seq = (targets[name].to_numpy().astype(np.int64) for name in ("user", "seq"))
    item = targets["item"].to_numpy().astype(np.int64)
    lists = [
        _shortlist(int(u), int(s), int(i), touched[u], items, data_seed)
        for u, s, i in zip(user, seq, item, strict=True)
    ]
    sizes = np.fromiter(map(len, lists), np.int64, len(lists))
    candidates = np.concatenate(lists) if lists else np.zeros(0, np.int64)
    labels = candidates == np.repeat(item, sizes)
    return Moments(user, targets["at"].to_numpy(), seq, sizes, candidates, labels)


def _shortlist(
    user: int, seq: int, taken: int, touched: Int64Array, items: int, data_seed: int
) -> Int64Array:
    """The item taken and never-touched ones, shuffled.

    Keyed by (data seed, user, seq): the same whoever asks, in whatever order.
    """
    rng = np.random.Generator(np.random.Philox(key=[data_seed, (user << 32) | seq]))
    free = items - len(touched)
    count = min(NEGATIVES, free)
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


def _catalogue(targets: pl.DataFrame, items: int) -> Moments:
    if len(targets) * items > _MOST_SCORES:
        raise BadSetting(
            "replay.candidates",
            f"{len(targets)} moments x {items} items are too many scores: use {SHORTLIST}",
        )
    candidates = np.tile(np.arange(1, items + 1), len(targets))
    labels = candidates == np.repeat(targets["item"].to_numpy(), items)
    sizes = np.full(len(targets), items, np.int64)
    user, seq = (targets[name].to_numpy().astype(np.int64) for name in ("user", "seq"))
    return Moments(user, targets["at"].to_numpy(), seq, sizes, candidates, labels)


def _shown(events: pl.DataFrame) -> Moments:
    # Requests of the same second may interleave: each one's rows must follow each other.
    first = pl.col("seq").min().over("user", "request")
    sorted_events = events.sort("user", first, "request", "seq")
    requests = sorted_events.group_by("user", "request", maintain_order=True).agg(
        pl.col("at", "seq").first(), size=pl.len()
    )
    columns = (requests[name].to_numpy() for name in ("user", "at", "seq", "size"))
    user, at, seq, size = columns
    return Moments(
        user.astype(np.int64),
        at,
        seq.astype(np.int64),
        size.astype(np.int64),
        sorted_events["item"].to_numpy().astype(np.int64),
        sorted_events["label"].to_numpy() > 0,
    )


def _clicks(events: pl.DataFrame, moments: Moments) -> Clicks:
    """The behaviour among ``events`` that has a moment after it."""
    mere = events.filter(pl.col("request") < 0)
    user, seq, item = (mere[name].to_numpy().astype(np.int64) for name in ("user", "seq", "item"))
    at = mere["at"].to_numpy()
    order = _time_order(
        np.append(moments.at, at), np.append(moments.user, user), np.append(moments.seq, seq)
    )
    clicks = np.flatnonzero(order >= len(moments))
    place = np.searchsorted(np.flatnonzero(order < len(moments)), clicks)
    early = place < len(moments)
    chosen = order[clicks[early]] - len(moments)
    return Clicks(user[chosen], at[chosen], seq[chosen], item[chosen], place[early])


def _time_order(at: NDArray[np.float64], user: Int64Array, seq: Int64Array) -> Int64Array:
    """By time; of equal times the smaller user first, then the smaller seq."""
    return np.lexsort((seq, user, at))


def _in_time(moments: Moments) -> Moments:
    order = _time_order(moments.at, moments.user, moments.seq)
    sizes = moments.sizes[order]
    starts = (np.cumsum(moments.sizes) - moments.sizes)[order]
    within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows = np.repeat(starts, sizes) + within
    return Moments(
        moments.user[order],
        moments.at[order],
        moments.seq[order],
        sizes,
        moments.candidates[rows],
        moments.labels[rows],
    )
