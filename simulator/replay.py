"""One run: a bundle, played by device processes through the test part of a log.

The log is cut into rounds of consecutive moments, in virtual time. Each process gets the moments
of its own users, ranks, and only then learns what the user took. Where the cloud reads across
users, every process ends a round before any begins the next one.

What users take by themselves belongs to the round before, so that whoever reads across users finds
it at the next ranking; what they take before the first ranking is a round of its own.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import numpy as np

from protos.v1.simulation_pb2 import Begin, InitialWindow, Moment, Ready, Round, RoundDone, RunDone
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import RunFailed
from shared_models.contract.tensors import Int64Array
from shared_models.logs.moments import Moments
from simulator.coordinator import DeviceLink
from simulator.tally import Tally

_AHEAD: Final = 2
"""Rounds that a process may hold: one to play, and one so that it never waits for us."""
OnReport = Callable[[Tally, Int64Array, tuple[int, int]], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """How a log is played.

    Attributes:
        round_events: moments in a round.
        whole_catalogue: the candidates of every moment are all items, in order.
        device: settings of every device as JSON.
    """

    round_events: int = 2000
    whole_catalogue: bool = False
    device: str = "{}"


@dataclass(frozen=True, slots=True)
class Part:
    """A round: moments ``start`` to ``stop``, clicks ``first_click`` to ``last_click``."""

    number: int
    start: int
    stop: int
    first_click: int = 0
    last_click: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """What a device process said of itself and of its traffic at a run's end."""

    pid: int
    ready: Ready
    done: RunDone


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


@dataclass(frozen=True, slots=True)
class Share:
    """The users of one process among ``count``."""

    index: int
    count: int

    def of(self, users: Int64Array) -> Int64Array:
        """Where in ``users`` those of this process stand."""
        return np.flatnonzero(users % self.count == self.index)


class Replay:
    """Plays one bundle; what comes of it fills `tally`, also where the run is cut short.

    Args:
        moments: the test part, in order of virtual time.
        windows: each user's items before the first moment, newest last.
        bundle: what devices should run.
        rules: how it is played.
        profiles: value ids of each user's features, by user.
        on_report: told after each report: the tally, which moments it was about, `traffic`.
    """

    def __init__(
        self,
        moments: Moments,
        windows: Mapping[int, Sequence[int]],
        bundle: Bundle,
        rules: Rules,
        on_report: OnReport = lambda *_: None,
        profiles: Mapping[int, Sequence[int]] = MappingProxyType({}),
    ) -> None:
        self.tally = Tally(moments)
        self._moments, self._windows, self._bundle = moments, windows, bundle
        self._profiles = profiles
        self._rules, self._on_report = rules, on_report
        self._parts = parts(moments, rules.round_events)
        self._traffic: dict[int, tuple[int, int]] = {}

    @property
    def traffic(self) -> tuple[int, int]:
        """Payload so far in bytes, up and down, as the devices told at the ends of rounds."""
        up, down = zip(*self._traffic.values(), strict=True) if self._traffic else ((), ())
        return sum(up), sum(down)

    async def play(self, links: Sequence[DeviceLink]) -> list[Account]:
        """Play the whole log; users are spread over ``links``.

        Raises:
            RunFailed: a process failed, went away, or reported nonsense.
        """
        together = asyncio.Barrier(len(links)) if self._bundle.manifest.cross_user else None
        try:
            async with asyncio.TaskGroup() as group:
                runs = [
                    group.create_task(self._drive(link, Share(index, len(links)), together))
                    for index, link in enumerate(links)
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        if not self.tally.ranked.all():
            raise RunFailed(f"{(~self.tally.ranked).sum()} moments were left without a ranking")
        return [run.result() for run in runs]

    async def _drive(
        self, link: DeviceLink, share: Share, together: asyncio.Barrier | None
    ) -> Account:
        ready = await link.begin(self._begin(share))
        if ready.bundle_id != self._bundle.id:
            raise RunFailed(f"device process {link.pid} runs bundle {ready.bundle_id[:12]}")
        held: deque[Part] = deque()
        for part in self._parts:
            link.play(self._round(part, share))
            held.append(part)
            if together or len(held) == _AHEAD:
                await self._hear(link, held.popleft())
            if together:
                await together.wait()
        for part in held:
            await self._hear(link, part)
        return Account(link.pid, ready, await link.end())

    async def _hear(self, link: DeviceLink, part: Part) -> None:
        async for report in link.rankings(part.number):
            if isinstance(report, RoundDone):
                self._traffic[link.pid] = (report.bytes_up, report.bytes_down)
            else:
                about = self.tally.enter(part.start, report)
                self._on_report(self.tally, about, self.traffic)

    def _begin(self, share: Share) -> Begin:
        users = np.fromiter(self._windows, np.int64)
        windows = [
            InitialWindow(
                user=user, items=self._windows[user], profile=self._profiles.get(user, ())
            )
            for user in users[share.of(users)].tolist()
        ]
        method = self._bundle.manifest.method
        return Begin(method=method, settings=self._rules.device, windows=windows)

    def _round(self, part: Part, share: Share) -> Round:
        log, clicks = self._moments, self._moments.clicks
        moment_M = share.of(log.user[part.start : part.stop]) + part.start
        click_K = share.of(clicks.user[part.first_click : part.last_click]) + part.first_click
        lived = [
            *(self._click(click) for click in click_K.tolist()),
            *(self._moment(part, moment) for moment in moment_M.tolist()),
        ]
        order = np.argsort(np.append(clicks.place[click_K], moment_M), kind="stable")
        return Round(number=part.number, moments=[lived[index] for index in order.tolist()])

    def _click(self, click: int) -> Moment:
        clicks = self._moments.clicks
        return Moment(
            user=clicks.user[click],
            at=clicks.at[click],
            outcome=[clicks.item[click]],
            behaviour_only=True,
        )

    def _moment(self, part: Part, moment: int) -> Moment:
        log, rows = self._moments, self.tally.rows(moment)
        candidates = log.candidates[rows]
        return Moment(
            index=moment - part.start,
            user=log.user[moment],
            at=log.at[moment],
            candidates=b"" if self._rules.whole_catalogue else candidates.astype("<i4").tobytes(),
            outcome=candidates[log.labels[rows]],
        )
