"""One run: a bundle, played by device processes through the test part of a log.

The log is cut into rounds of consecutive moments, in virtual time. Each process gets the moments
of its own users, ranks, and only then learns what the user took. Where the cloud reads across
users, every process ends a round before any begins the next one.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Part:
    """A round: moments ``start`` to ``stop`` of the log."""

    number: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Account:
    """What a device process said of itself and of its traffic at a run's end."""

    pid: int
    ready: Ready
    done: RunDone


def parts(moments: int, round_events: int) -> list[Part]:
    """Rounds of ``round_events`` consecutive moments; the last one may be shorter."""
    starts = range(0, moments, round_events)
    return [
        Part(number, start, min(start + round_events, moments))
        for number, start in enumerate(starts, start=1)
    ]


class Replay:
    """Plays one bundle; what comes of it fills `tally`, also where the run is cut short.

    Args:
        moments: the test part, in order of virtual time.
        windows: each user's items before the first moment, newest last.
        bundle: what devices should run.
        settings: device settings as JSON.
        round_events: moments in a round.
        on_report: called after each report with the tally, and payload bytes so far (up, down).
    """

    def __init__(
        self,
        moments: Moments,
        windows: dict[int, list[int]],
        bundle: Bundle,
        *,
        settings: str = "{}",
        round_events: int = 2000,
        on_report: Callable[["Replay", Int64Array], None] = lambda *_: None,
    ) -> None:
        self.tally = Tally(moments.sizes)
        self._moments, self._windows = moments, windows
        self._bundle, self._settings = bundle, settings
        self._parts = parts(len(moments.user), round_events)
        self._on_report = on_report
        self._traffic: dict[int, tuple[int, int]] = {}

    @property
    def traffic(self) -> tuple[int, int]:
        """Payload so far, in bytes up and down, as the devices told at the end of rounds."""
        return sum(up for up, _ in self._traffic.values()), sum(
            down for _, down in self._traffic.values()
        )

    async def play(self, links: list[DeviceLink]) -> list[Account]:
        """Play the whole log; users are spread over ``links``.

        Raises:
            RunFailed: a process failed, went away, or reported nonsense.
        """
        together = asyncio.Barrier(len(links)) if self._bundle.manifest.cross_user else None
        try:
            async with asyncio.TaskGroup() as group:
                runs = [
                    group.create_task(self._drive(link, _Share(share, len(links)), together))
                    for share, link in enumerate(links)
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return [run.result() for run in runs]

    async def _drive(
        self, link: DeviceLink, share: "_Share", together: asyncio.Barrier | None
    ) -> Account:
        ready = await link.begin(self._begin(share))
        if ready.bundle_id != self._bundle.id:
            raise RunFailed(f"device process {link.pid} runs bundle {ready.bundle_id[:12]}")
        held: deque[Part] = deque()
        for part in self._parts:
            link.play(Round(number=part.number, moments=self._orders(part, share)))
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
                self._on_report(self, self.tally.enter(part.start, report))

    def _begin(self, share: "_Share") -> Begin:
        windows = [
            InitialWindow(user=user, items=items)
            for user, items in self._windows.items()
            if share.holds(user)
        ]
        method = self._bundle.manifest.method
        return Begin(method=method, settings=self._settings, windows=windows)
