"""Where runs are played: one cloud process at a time, device processes for all runs."""

import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Generic, Protocol

from typing_extensions import TypeVar

from shared_models.contract.bundle import Bundle, BundleStore
from simulator.cache import CLOUD, Resolved, Say, Trained
from simulator.coordinator import Coordinator, DeviceLink
from simulator.entries import slug
from simulator.fleet import Fleet, Process
from simulator.replay import Account, Release, Replay, Retrain
from simulator.wire import CloudAccount, read_cloud, require_reconciled

DEVICE: Final = "device_client.cli"
SHAPER: Final = "simulator.cli"
_ANY_PORT: Final = "127.0.0.1:0"
_READY_S: Final = 120.0
_JOURNAL: Final = "journal.sqlite"
_BUNDLES: Final = "bundles"


@dataclass(frozen=True, slots=True)
class Continual:
    """How a run's cloud goes on training in mid-replay.

    Attributes:
        log: folder of the prepared log that the first bundle was trained on.
        recipe: arguments of ``concerto-cloud retrain`` that say how.
        say: hears how it goes.
    """

    log: Path
    recipe: Sequence[str]
    say: Say


class Setting(Protocol):
    """What a stage must know of an experiment."""

    @property
    def folder(self) -> Path:
        """Where results and logs go."""
        ...

    @property
    def devices(self) -> int:
        """Device processes."""
        ...

    @property
    def data_seed(self) -> int:
        """Of what is drawn beside the models."""
        ...

    @property
    def link(self) -> str | None:
        """What sessions are played over in real time."""
        ...


class Playable(Protocol):
    """What device processes play."""

    @property
    def releases(self) -> Sequence[Release]:
        """The bundles that they ran so far."""
        ...

    async def play(
        self, links: Sequence[DeviceLink], retrain: Retrain | None = None
    ) -> list[Account]:
        """Play it to its end."""
        ...


R_co = TypeVar("R_co", bound=Playable, default=Replay, covariant=True)


@dataclass(slots=True)
class Run(Generic[R_co]):
    """One (entry, seed): its model, its replay, and what the devices said at the end.

    Attributes:
        label: of the entry.
        flags: ``path=value`` settings of the serving cloud.
        continual: how its cloud goes on training, where the replay wants that.
        accounts: empty as long as the replay has not come to its end.
        cloud: the cloud's own account; None where it left none.
        in_flight: most asks that a device process has under way.
        seconds: measured, from the first order to the last word.
    """

    label: str
    resolved: Resolved
    seed: int
    trained: Trained
    replay: R_co
    flags: Sequence[str] = ()
    continual: Continual | None = None
    accounts: Sequence[Account] = ()
    cloud: CloudAccount | None = None
    in_flight: int = 64
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """As in ``duet-0``: part of file names."""
        return f"{slug(self.label)}-{self.seed}"

    @property
    def title(self) -> str:
        """As in ``duet (sasrec, seed 0)``."""
        return f"{self.label} ({self.resolved.trunk}, seed {self.seed})"


@asynccontextmanager
async def open_stage(scenario: Setting) -> AsyncIterator["Stage"]:
    """A stage for ``scenario``; whoever leaves it leaves no process behind."""
    with TemporaryDirectory(prefix="concerto-") as downloads:
        async with Fleet(scenario.folder / "logs") as fleet, Coordinator() as coordinator:
            yield Stage(scenario, fleet, coordinator, Path(downloads))


class Stage:
    """Starts what a run needs, and plays it.

    Args:
        scenario: says how many devices there are.
        fleet: where processes are started.
        coordinator: where device processes dial in.
        downloads: each process downloads its own bundles there, as a phone would, so that their
            bytes are counted.
        clock: monotonic seconds, for what is measured.

    Attributes:
        clouds: resident bytes of every cloud process so far at its end, by process id.
    """

    def __init__(
        self,
        scenario: Setting,
        fleet: Fleet,
        coordinator: Coordinator,
        downloads: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scenario, self._fleet, self._coordinator = scenario, fleet, coordinator
        self._downloads, self._clock = downloads, clock
        self._cloud_address = _ANY_PORT
        self._devices: list[Process] = []
        self._links: list[DeviceLink] = []
        self.clouds: dict[int, int] = {}

    async def play(self, run: Run[Playable]) -> None:
        """Serve the run's bundle and replay it; fills ``run``.

        Raises:
            RunFailed: a process ended, or said that it cannot go on, or the accounts of devices and
                cloud differ.
        """
        ledger = self._scenario.folder / f"exchanges-{run.name}.parquet"
        cloud = await self._serve(run, ledger)
        if not self._links:
            await self._gather()
        start = self._clock()
        go_on = partial(self._retrain, run, run.continual) if run.continual else None
        run.accounts = await self._fleet.while_alive(run.replay.play(self._links, go_on))
        run.seconds = self._clock() - start
        self.clouds[cloud.pid] = cloud.resident_bytes
        await self._fleet.stop(cloud)
        run.cloud = read_cloud(ledger)
        require_reconciled(run.accounts, run.cloud)

    async def dismiss(self) -> None:
        """Let the device processes end by themselves."""
        for link in self._links:
            link.leave()
        for process in self._devices:
            await self._fleet.ended(process)

    async def _retrain(self, run: Run[Playable], how: Continual) -> Bundle:
        """Train on what was uploaded; what is released then, the cloud announces by itself."""
        folder, method = self._own(run), run.resolved.method
        name = f"retrain-{run.name}-{len(run.replay.releases)}"
        places = {
            "--bundles": folder / _BUNDLES,
            "--journal": folder / _JOURNAL,
            "--log": how.log,
            "--out": folder / f"retrain-{len(run.replay.releases)}",
        }
        options = [part for option, path in places.items() for part in (option, str(path))]
        work = self._fleet.complete(
            name, CLOUD, "retrain", "--method", method, *options, *how.recipe
        )
        async for line in work:
            if line.startswith(run.resolved.title(run.seed)):
                how.say(line)
        store = BundleStore(folder / _BUNDLES)
        return store.get(store.released()[method])

    def _own(self, run: Run[Playable]) -> Path:
        """Where the cloud of ``run`` keeps what it is told and what it learns from that."""
        return self._scenario.folder / "journals" / run.name

    async def _serve(self, run: Run[Playable], ledger: Path) -> Process:
        journal = self._own(run) / _JOURNAL
        # What an earlier run stored is not this one's past.
        shutil.rmtree(journal.parent, ignore_errors=True)
        ledger.unlink(missing_ok=True)
        journal.parent.mkdir(parents=True)
        bundles = run.trained.bundles
        if run.continual:
            # Other runs begin with the same bundle, and not with what follows it in this one.
            bundles = shutil.copytree(bundles, journal.parent / _BUNDLES)
        cloud = self._fleet.start(
            f"cloud-{run.name}",
            CLOUD,
            "serve",
            "--bundles",
            str(bundles),
            "--listen",
            self._cloud_address,
            "--journal",
            str(journal),
            "--ledger",
            str(ledger),
            *(part for flag in run.flags for part in ("--set", flag)),
        )
        self.clouds[cloud.pid] = 0
        # Devices know one address: every cloud of this stage takes the first one's.
        self._cloud_address = await self._fleet.line(cloud, "listening on ", _READY_S)
        return cloud

    async def _gather(self) -> None:
        cloud = await self._over_a_link(self._cloud_address)
        places = ("--cloud", cloud, "--simulation", self._coordinator.address)
        for index in range(self._scenario.devices):
            name = f"device-{index}"
            own = ("--bundles", str(self._downloads / name))
            self._devices.append(self._fleet.start(name, DEVICE, "run", *places, *own))
        self._links = await self._fleet.while_alive(
            self._coordinator.gathered(self._scenario.devices)
        )

    async def _over_a_link(self, cloud: str) -> str:
        """Where devices find ``cloud``: behind a proxy where the scenario has a link."""
        link = self._scenario.link
        if link is None:
            return cloud
        places = ("--to", cloud, "--listen", _ANY_PORT)
        seed = ("--seed", str(self._scenario.data_seed))
        proxy = self._fleet.start("link", SHAPER, "shape", "--link", link, *places, *seed)
        return await self._fleet.line(proxy, "listening on ", _READY_S)
