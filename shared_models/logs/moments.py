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
from shared_models.logs import sessions
from shared_models.logs.prepared import Part, PreparedLog, targets
from shared_models.logs.shortlists import NEGATIVES, shortlist, touched
from shared_models.logs.splits import split_named

SHORTLIST: Final = "shortlist-100"
SESSION: Final = "session-100"
FULL: Final = "full"
CANDIDATES: Final = (SHORTLIST, SESSION, FULL)
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
        begins: bool (M,), true where a session of the user begins, as of these moments.
        clicks: behaviour that only becomes history.
    """

    user: Int64Array
    at: NDArray[np.float64]
    seq: Int64Array
    sizes: Int64Array
    candidates: Int64Array
    labels: NDArray[np.bool_]
    begins: NDArray[np.bool_]
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
            self.begins[chosen],
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
    uniform ones that its user never takes anywhere in the log (or the full catalogue). With
    ``session-100`` all moments of a session share one list: what the user takes in it, filled up
    to 100 with items never taken; what was taken is gone from the next moment on. In a log of
    labelled exposures each request is one, with the items that were shown; mere behaviour is
    none, and stands in ``clicks``.

    Raises:
        UnknownName: ``candidates`` is none of `CANDIDATES`.
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
    if candidates == SESSION:
        return _in_time(_session_lists(with_history, touched(log), log.items, data_seed))
    return _in_time(_shortlists(with_history, touched(log), log.items, data_seed))


def protocol_name(log: PreparedLog, candidates: str, data_seed: int) -> str:
    """One line that says how the figures beside it were taken."""
    if log.task == "labelled-exposures":
        shown = "candidates as shown"
    elif candidates == FULL:
        shown = "full catalogue, history not masked"
    elif candidates == SESSION:
        shown = (
            f"session-100: what a session takes and never-touched ones, one list a session of at "
            f"most {sessions.LONGEST} events without a pause of {sessions.PAUSE_S:g} s, those "
            f"taken gone, data seed {data_seed}"
        )
    else:
        shown = f"shortlist-100: 1 taken + {NEGATIVES} never-touched, data seed {data_seed}"
    about = log.manifest
    shares = split_named(about.split).shares
    return (
        f"{about.name} ({about.hash[:8]}), {about.task}, {about.split} {shares}, {shown}, "
        f"ties mid-rank; the split leaks: {about.leaks}"
    )


@dataclass(frozen=True, slots=True)
class _Taken:
    """What users take in a part, in order of (user, seq)."""

    user: Int64Array
    seq: Int64Array
    at: NDArray[np.float64]
    item: Int64Array

    @classmethod
    def of(cls, targets: pl.DataFrame) -> "_Taken":
        user, seq, item = (targets[n].to_numpy().astype(np.int64) for n in ("user", "seq", "item"))
        return cls(user, seq, targets["at"].to_numpy(), item)

    def among(self, lists: list[Int64Array]) -> Moments:
        """A moment for each event, with its list of candidates."""
        sizes = np.fromiter(map(len, lists), np.int64, len(lists))
        candidates = np.concatenate(lists) if lists else np.zeros(0, np.int64)
        labels = candidates == np.repeat(self.item, sizes)
        return Moments(self.user, self.at, self.seq, sizes, candidates, labels, self.begins)

    @property
    def begins(self) -> NDArray[np.bool_]:
        """Where a session begins."""
        begins: NDArray[np.bool_] = sessions.places(self.user, self.at) == 0
        return begins


def _shortlists(
    targets: pl.DataFrame, of_user: list[Int64Array], items: int, data_seed: int
) -> Moments:
    taken = _Taken.of(targets)
    lists = [
        shortlist(int(u), int(s), np.array([i]), of_user[u], items, data_seed)
        for u, s, i in zip(taken.user, taken.seq, taken.item, strict=True)
    ]
    return taken.among(lists)


def _session_lists(
    targets: pl.DataFrame, of_user: list[Int64Array], items: int, data_seed: int
) -> Moments:
    taken, lists = _Taken.of(targets), []
    bounds = [*np.flatnonzero(taken.begins).tolist(), len(taken.user)]
    for first, stop in pairwise(bounds):
        user, of_session = int(taken.user[first]), taken.item[first:stop]
        key = (user, int(taken.seq[first]))
        shown = shortlist(*key, np.unique(of_session), of_user[user], items, data_seed)
        last = {item: place for place, item in enumerate(of_session.tolist())}
        gone = np.array([last.get(item, stop) for item in shown.tolist()])
        lists += [shown[gone >= place] for place in range(stop - first)]
    return taken.among(lists)


def _catalogue(targets: pl.DataFrame, items: int) -> Moments:
    if len(targets) * items > _MOST_SCORES:
        raise BadSetting(
            "replay.candidates",
            f"{len(targets)} moments x {items} items are too many scores: use {SHORTLIST}",
        )
    return _Taken.of(targets).among([np.arange(1, items + 1)] * len(targets))


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
        sessions.places(user, at) == 0,
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
        moments.begins[order],
    )
