"""The orders of a replay: a log cut into rounds of virtual time, to each device process its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from protos.v1.simulation_pb2 import Begin, InitialWindow, Moment, Round
from shared_models.contract.tensors import Int64Array
from shared_models.logs.moments import Moments


@dataclass(frozen=True, slots=True)
class Rules:
    """How a log is played.

    Attributes:
        round_events: moments in a round.
        whole_catalogue: the candidates of every moment are all items, in order.
        device: settings of every device as JSON.
        retrain: rounds after which the cloud releases another bundle; None: never.
        live: devices wait for answers as outside replays, because faults are played.
    """

    round_events: int = 2000
    whole_catalogue: bool = False
    device: str = "{}"
    retrain: int | None = None
    live: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A round: moments ``start`` to ``stop``, clicks ``first_click`` to ``last_click``."""

    number: int
    start: int
    stop: int
    first_click: int = 0
    last_click: int = 0


def parts(moments: Moments, round_events: int) -> list[Part]:
    """Rounds of ``round_events`` consecutive moments; the last one may be shorter.

    Where clicks come before the first moment, they have a round without moments.
    """
    place_K = moments.clicks.place
    stops = [*range(round_events, len(moments), round_events), len(moments)]
    if (place_K == 0).any():
        stops.insert(0, 0)
    clicks = np.searchsorted(place_K, stops, "right").tolist()
    spans = zip(pairwise([0, *stops]), pairwise([0, *clicks]), strict=True)
    return [Part(number, *own, *mere) for number, (own, mere) in enumerate(spans, start=1)]


def legs(moments: Moments, rules: Rules) -> list[list[Part]]:
    """Its rounds, cut where devices get another bundle."""
    rounds = parts(moments, rules.round_events)
    length = rules.retrain or len(rounds)
    return [rounds[start : start + length] for start in range(0, len(rounds), length)]


@dataclass(frozen=True, slots=True)
class Share:
    """The users of one process among ``count``."""

    index: int
    count: int

    def of(self, users: Int64Array) -> Int64Array:
        """Where in ``users`` those of this process stand."""
        return np.flatnonzero(users % self.count == self.index)


class Orders:
    """What device processes are told.

    Args:
        moments: the test part, in order of virtual time.
        windows: each user's items before the first moment, newest last.
        profiles: value ids of each user's features, by user.
        rules: how it is played.
    """

    def __init__(
        self,
        moments: Moments,
        windows: Mapping[int, Sequence[int]],
        profiles: Mapping[int, Sequence[int]],
        rules: Rules,
    ) -> None:
        self._moments, self._windows = moments, windows
        self._profiles, self._rules = profiles, rules
        self._ends = np.cumsum(moments.sizes)

    def begin(self, method: str, share: Share) -> Begin:
        """Start a run of ``method`` with the users of ``share``."""
        users = np.fromiter(self._windows, np.int64)
        windows = [
            InitialWindow(
                user=user, items=self._windows[user], profile=self._profiles.get(user, ())
            )
            for user in users[share.of(users)].tolist()
        ]
        rules = self._rules
        return Begin(method=method, settings=rules.device, windows=windows, live=rules.live)

    def round(self, part: Part, share: Share, *, hand_over: bool = False) -> Round:
        """Live through ``part``; with ``hand_over``, nothing waits for the cloud after it."""
        log, clicks = self._moments, self._moments.clicks
        moment_M = share.of(log.user[part.start : part.stop]) + part.start
        click_K = share.of(clicks.user[part.first_click : part.last_click]) + part.first_click
        lived = [
            *(self._click(click) for click in click_K.tolist()),
            *(self._moment(part, moment) for moment in moment_M.tolist()),
        ]
        order = np.argsort(np.append(clicks.place[click_K], moment_M), kind="stable")
        moments = [lived[index] for index in order.tolist()]
        return Round(number=part.number, moments=moments, hand_over=hand_over)

    def _click(self, click: int) -> Moment:
        clicks = self._moments.clicks
        return Moment(
            user=clicks.user[click],
            at=clicks.at[click],
            outcome=[clicks.item[click]],
            behaviour_only=True,
        )

    def _moment(self, part: Part, moment: int) -> Moment:
        log, rows = self._moments, self._rows(moment)
        candidates = log.candidates[rows]
        return Moment(
            index=moment - part.start,
            user=log.user[moment],
            at=log.at[moment],
            candidates=b"" if self._rules.whole_catalogue else candidates.astype("<i4").tobytes(),
            outcome=candidates[log.labels[rows]],
            begins=log.begins[moment],
        )

    def _rows(self, moment: int) -> slice:
        """Where the candidates of a moment lie."""
        stop = int(self._ends[moment])
        return slice(stop - int(self._moments.sizes[moment]), stop)
