"""One run: a bundle, played by device processes through the test part of a log.

The log is cut into rounds of consecutive moments, in virtual time. Each process gets the moments
of its own users, ranks, and only then learns what the user took. Where the cloud reads across
users, every process ends a round before any begins the next one.

The cloud may train on what was uploaded after each so many rounds. Then every process ends its
round, hands over what waits, and runs the new bundle from the next round on.

What users take by themselves belongs to the round before, so that whoever reads across users finds
it at the next ranking; what they take before the first ranking is a round of its own.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from protos.v1.simulation_pb2 import Begin, Ready, RoundDone, RunDone
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import RunFailed
from shared_models.contract.tensors import Int64Array
from shared_models.logs.moments import Moments
from simulator.coordinator import DeviceLink
from simulator.rounds import Orders, Part, Rules, Share, legs
from simulator.tally import Tally

T = TypeVar("T")
_AHEAD: Final = 2
"""Rounds that a process may hold: one to play, and one so that it never waits for us."""
Retrain = Callable[[], Awaitable[Bundle]]
"""Trains on what was uploaded so far, and gives what was released then."""
OnReport = Callable[[Tally, Int64Array, tuple[int, int]], None]
OnRound = Callable[[Share, int, RoundDone], None]


@dataclass(frozen=True, slots=True)
class Release:
    """A bundle, and the moment from which on devices ran it."""

    bundle: Bundle
    first: int


@dataclass(frozen=True, slots=True)
class Account:
    """What a device process said of itself and of its traffic at a run's end."""

    pid: int
    ready: Ready
    done: RunDone


class Replay:
    """Plays a bundle, and those that follow it; fills `tally`, also where the run is cut short.

    Args:
        moments: the test part, in order of virtual time.
        windows: each user's items before the first moment, newest last.
        bundle: what devices should run at first.
        rules: how it is played.
        profiles: value ids of each user's features, by user.
        on_report: told after each report: the tally, which moments it was about, `traffic`.

    Attributes:
        releases: what devices ran so far, and from when on.
        on_round: told when a process, by its share of the users and its id, has ended a round.
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
        self.releases = [Release(bundle, 0)]
        self._orders = Orders(moments, windows, profiles, rules)
        self._legs, self._on_report = legs(moments, rules), on_report
        self.on_round: OnRound = lambda *_: None
        self._traffic: dict[tuple[int, int], tuple[int, int]] = {}
        self._payload: dict[int, list[tuple[int, int]]] = {}
        self._processes = 0

    @property
    def rounds(self) -> list[Part]:
        """All of them, in order."""
        return [part for leg in self._legs for part in leg]

    @property
    def bundle(self) -> Bundle:
        """What devices run now."""
        return self.releases[-1].bundle

    @property
    def traffic(self) -> tuple[int, int]:
        """Payload so far in bytes, up and down, as the devices told at the ends of rounds."""
        return _sums(self._traffic.values())

    def payload(self, stop: int) -> tuple[int, int] | None:
        """Payload before moment ``stop`` in bytes, up and down; None if no round ended there."""
        if not stop:
            return 0, 0
        told = self._payload.get(stop, [])
        return _sums(told) if told and len(told) == self._processes else None

    async def play(
        self, links: Sequence[DeviceLink], retrain: Retrain | None = None
    ) -> list[Account]:
        """Play the whole log; users are spread over ``links``.

        Args:
            links: the device processes.
            retrain: what makes the next bundle, where the rules want one.

        Raises:
            RunFailed: a process failed, went away, or reported nonsense.
        """
        lanes = [(link, Share(index, len(links))) for index, link in enumerate(links)]
        self._processes = len(links)
        method = self.bundle.manifest.method
        first = await all_of(
            begun(link, self._orders.begin(method, share), self.bundle) for link, share in lanes
        )
        for number, leg in enumerate(self._legs):
            if number and retrain:
                await self._release(await retrain(), leg[0].start, links)
            cross_user = self.bundle.manifest.cross_user
            together = asyncio.Barrier(len(links)) if cross_user else None
            await all_of(self._drive(link, share, leg, together) for link, share in lanes)
        if not self.tally.ranked.all():
            raise RunFailed(f"{(~self.tally.ranked).sum()} moments were left without a ranking")
        ended = await all_of(link.end() for link in links)
        return [
            Account(link.pid, ready, done)
            for link, ready, done in zip(links, first, ended, strict=True)
        ]

    async def _release(self, bundle: Bundle, first: int, links: Sequence[DeviceLink]) -> None:
        """Let all devices run ``bundle`` from moment ``first`` on."""
        switched = await all_of(link.switch(bundle.id) for link in links)
        for link, ready in zip(links, switched, strict=True):
            if ready.bundle_id != bundle.id:
                raise RunFailed(
                    f"device process {link.pid} did not take over bundle {bundle.id[:12]}: "
                    "its log says why"
                )
        self.releases.append(Release(bundle, first))

    async def _drive(
        self, link: DeviceLink, share: Share, leg: Sequence[Part], together: asyncio.Barrier | None
    ) -> None:
        held: deque[Part] = deque()
        for part in leg:
            link.play(self._orders.round(part, share, hand_over=part is leg[-1]))
            held.append(part)
            if together or len(held) == _AHEAD:
                await self._hear(link, share, held.popleft())
            if together:
                await together.wait()
        for part in held:
            await self._hear(link, share, part)

    async def _hear(self, link: DeviceLink, share: Share, part: Part) -> None:
        async for report in link.rankings(part.number):
            if isinstance(report, RoundDone):
                # By share: in containers of their own, processes may have the same id. By id: one
                # that takes a killed one's place counts from 0.
                self._traffic[share.index, link.pid] = report.bytes_up, report.bytes_down
                if part.stop:
                    lives = (
                        spent for (own, _), spent in self._traffic.items() if own == share.index
                    )
                    self._payload.setdefault(part.stop, []).append(_sums(lives))
                self.on_round(share, link.pid, report)
            else:
                about = self.tally.enter(part.start, report)
                self._on_report(self.tally, about, self.traffic)


async def begun(link: DeviceLink, order: Begin, bundle: Bundle) -> Ready:
    """Start a run on a device process.

    Raises:
        RunFailed: it runs another bundle.
    """
    ready = await link.begin(order)
    if ready.bundle_id != bundle.id:
        raise RunFailed(f"device process {link.pid} runs bundle {ready.bundle_id[:12]}")
    return ready


async def all_of(works: Iterable[Coroutine[None, None, T]]) -> list[T]:
    """What each of ``works`` gives; the first one that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in tasks]


def _sums(pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
    both = list(pairs)
    return sum(up for up, _ in both), sum(down for _, down in both)
