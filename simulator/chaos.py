"""Carries out the faults of a file while a run is played, and writes down what was seen.

A fault begins as soon as so many moments are ranked as its strike says. The round that it belongs
to does not end before it is over, so that a long list of faults does not outrun a short log; only
a bad link stays bad while the replay goes on.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from protos.v1.simulation_pb2 import Report
from shared_models.contract.bundle import Bundle, BundleStore
from shared_models.contract.errors import RunFailed
from shared_models.contract.security import ProcessIdentity
from simulator.coordinator import Coordinator
from simulator.faults import (
    ClockJump,
    CorruptBundle,
    CutLink,
    Fault,
    KillCloud,
    KillDevices,
    PoisonRelease,
    SlowLink,
    Strike,
)
from simulator.fleet import Fleet, Process
from simulator.keeper import CloudKeeper, announced
from simulator.links import Link
from simulator.poison import flipped, name_released, poison
from simulator.revival import Reviving
from simulator.shaper import Proxy

_ROLLBACK_S: Final = 30.0
_POLL: Final = 0.01
T = TypeVar("T")


@dataclass(slots=True)
class Seen:
    """A fault that was played.

    Attributes:
        kind: of the fault.
        round: in which it began; None: it was not tied to one.
        moment: moments ranked when it began; None: it came by itself.
        what: for people, what was done and seen.
        back_s: measured, until things were as before; None: nothing had to come back.
    """

    kind: str
    round: int | None
    moment: int | None
    what: str = ""
    back_s: float | None = None


@dataclass(frozen=True, slots=True)
class Troupe:
    """Whom faults happen to.

    Attributes:
        fleet: where processes run.
        coordinator: where device processes dial in.
        keeper: of the cloud.
        devices: the device processes by name; one that is killed is replaced in here.
        links: to these, by the same names.
        proxy: between them and the cloud, where a fault needs one.
        link: what the proxy plays while there is no fault.
        bundles: folder that the cloud serves.
        downloads: folder with one for each device process, by its name.
        device: what their processes prove themselves with; None: in clear.
    """

    fleet: Fleet
    coordinator: Coordinator
    keeper: CloudKeeper
    devices: dict[str, Process]
    links: dict[str, Reviving]
    proxy: Proxy | None
    link: Link
    bundles: Path
    downloads: Path
    device: ProcessIdentity | None = None


class Chaos:
    """The faults of one run.

    Args:
        strikes: what happens and when, in order.
        ranked: how many moments are ranked so far.
        bundle: what devices run now.
        clock: seconds; measures, never decides.

    Attributes:
        seen: what was played so far.
    """

    def __init__(
        self,
        strikes: Sequence[Strike],
        ranked: Callable[[], int],
        bundle: Callable[[], Bundle],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._left = deque(strikes)
        self._ranked, self._bundle, self._clock = ranked, bundle, clock
        self._changed = asyncio.Condition()
        self._offers: list[_Offer] = []
        self._disturbances: list[asyncio.Task[None]] = []
        self._open = Counter[type[CutLink | SlowLink]]()
        self.seen: list[Seen] = []

    async def settled(self, round_: int) -> None:
        """Wait until everything that belongs to a round, or to one before it, has happened."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._left or self._left[0].round > round_)

    async def play(self, troupe: Troupe, work: Coroutine[Any, Any, T]) -> T:
        """Do ``work``, which is a replay over ``troupe``'s links, under the faults.

        Raises:
            RunFailed: something happened that must not, whatever the faults.
        """
        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(work)
                beside = (troupe.keeper.watch(), self._strike_all(troupe))
                watching = [group.create_task(each) for each in beside]
                done = await task
                for each in (*watching, *self._disturbances):
                    each.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        for offer in self._offers:
            offer.conclude()
        return done

    async def _strike_all(self, troupe: Troupe) -> None:
        while self._left:
            strike = self._left[0]
            while self._ranked() < strike.at:
                await asyncio.sleep(_POLL)
            seen = Seen(strike.fault.kind, strike.round, self._ranked())
            self.seen.append(seen)
            await self._strike(strike.fault, troupe, seen, np.random.default_rng(strike.seed))
            async with self._changed:
                self._left.popleft()
                self._changed.notify_all()

    async def _strike(
        self, fault: Fault, troupe: Troupe, seen: Seen, rng: np.random.Generator
    ) -> None:
        match fault:
            case KillCloud():
                seen.back_s = (await troupe.keeper.kill()).back_s
                seen.what = "killed, and answered again"
            case KillDevices():
                names = rng.permutation(sorted(troupe.devices))[: fault.processes].tolist()
                seen.what = f"killed {', '.join(names)}"
                seen.back_s = await self._replace(names, troupe)
            case CorruptBundle():
                name = str(rng.choice(sorted(troupe.devices)))
                path = await self._corrupt(troupe.downloads / name)
                seen.what = f"flipped a bit of {path.name}, killed {name}"
                seen.back_s = await self._replace([name], troupe)
            case CutLink() | SlowLink():
                seen.what = f"for {fault.seconds:g} s"
                bad = asyncio.create_task(self._disturb(fault, troupe))
                self._disturbances.append(bad)
            case PoisonRelease():
                seen.back_s = await self._poison(fault, troupe, seen)
            case ClockJump():
                seen.what = f"devices' clocks are {fault.seconds:+g} s wrong"
                for link in troupe.links.values():
                    link.clock_error_s = fault.seconds

    async def _replace(self, names: Sequence[str], troupe: Troupe) -> float:
        """Kill device processes and start them again; seconds until they have dialled in."""
        began, fresh = self._clock(), {}
        for name in names:
            old = troupe.devices[name]
            troupe.links[name].killed()
            troupe.fleet.kill(old)
            new = troupe.fleet.start(_next_name(old.name), *old.command)
            troupe.devices[name] = fresh[new.pid] = new
        lives = await troupe.coordinator.gathered(len(names))
        by_pid = {life.pid: life for life in lives}
        for name in names:
            troupe.links[name].reborn(by_pid[troupe.devices[name].pid])
        return self._clock() - began

    async def _disturb(self, fault: CutLink | SlowLink, troupe: Troupe) -> None:
        proxy = troupe.proxy
        assert proxy is not None  # noqa: S101 - `Faults.needs_link`
        if isinstance(fault, SlowLink):
            proxy.change(fault.link)
        else:
            proxy.cut()
        self._open[type(fault)] += 1
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self._open[type(fault)] -= 1
            # The last one of its kind mends, where they overlap.
            if not self._open[type(fault)]:
                if isinstance(fault, SlowLink):
                    proxy.change(troupe.link)
                else:
                    proxy.mend()

    async def _corrupt(self, folder: Path) -> Path:
        """Flip a bit in the largest file of the bundle that a process keeps."""
        kept = folder / self._bundle().id
        while not kept.exists():  # a process that has just begun is still fetching it
            await asyncio.sleep(_POLL)
        largest = max(kept.iterdir(), key=lambda path: path.stat().st_size)
        largest.write_bytes(flipped(largest.read_bytes()))
        return largest

    async def _poison(self, fault: PoisonRelease, troupe: Troupe, seen: Seen) -> float:
        """Release a bad bundle, see it taken back, and offer it to devices all the same.

        Raises:
            RunFailed: the cloud announces it, or leaves it released.
        """
        good, root, began = self._bundle(), troupe.bundles, self._clock()
        method = good.manifest.method
        bad = poison(good, fault.how, root)
        name_released(root, method, bad)
        try:
            async with asyncio.timeout(_ROLLBACK_S):
                while BundleStore(root).released()[method] == bad:
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            raise RunFailed(f"the cloud left a bundle with {fault.how} released") from error
        seconds = self._clock() - began
        if await announced(troupe.keeper.address, troupe.device, method) == bad:
            raise RunFailed(f"the cloud announces a bundle with {fault.how}")
        seen.what = f"{fault.how}: taken back, never announced"
        heard = [link.offer(bad) for link in troupe.links.values()]
        self._offers.append(_Offer(seen, bad, heard))
        return seconds


@dataclass(frozen=True, slots=True)
class _Offer:
    """A bad bundle that devices were told to run."""

    seen: Seen
    bundle_id: str
    heard: "list[asyncio.Future[Report]]"

    def conclude(self) -> None:
        """Write down what became of it.

        Raises:
            RunFailed: somebody runs it.
        """
        answers = [each.result().ready for each in self.heard]
        exposed = sum(ready.bundle_id == self.bundle_id for ready in answers)
        if exposed:
            raise RunFailed(f"{exposed} of {len(answers)} device processes run {self.seen.what}")
        codes = ", ".join(sorted({ready.refusal.code for ready in answers}))
        self.seen.what += f"; offered to {len(answers)} processes, refused by all ({codes})"


def _next_name(name: str) -> str:
    """``device-0`` has the log ``device-0.2`` in its second life."""
    first, _, life = name.partition(".")
    return f"{first}.{int(life or 1) + 1}"
