"""Where runs are played: one cloud process at a time, device processes for all runs."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from shared_models.contract.bundle import Bundle
from shared_models.contract.security import Role
from simulator.chaos import Troupe
from simulator.coordinator import Coordinator, DeviceLink
from simulator.drill import Drill
from simulator.fleet import Fleet, Process
from simulator.history import require_kept
from simulator.keeper import CloudKeeper
from simulator.kept import note_kept
from simulator.links import link
from simulator.places import BUNDLES, JOURNAL, LOGS, MEMORY, own_folder, require_writable
from simulator.retraining import Continual, Retraining, retrained
from simulator.revival import Reviving
from simulator.runs import Playable, Run, Setting
from simulator.shaper import Proxy, shaping
from simulator.sites import CLOUD, LOCAL, Sites
from simulator.wire import read_cloud, require_reconciled

DEVICE: Final = "device_client.cli"
SHAPER: Final = "simulator.cli"
_ANY_PORT: Final = "127.0.0.1:0"
_READY_S: Final = 120.0


@asynccontextmanager
async def open_stage(scenario: Setting, sites: Sites = LOCAL) -> AsyncIterator["Stage"]:
    """A stage for ``scenario``; whoever leaves it leaves no process behind.

    Raises:
        InputError: results cannot be left where they should, or nothing can listen.
    """
    require_writable(scenario.folder)
    with TemporaryDirectory(prefix="concerto-") as downloads:
        async with (
            Fleet(scenario.folder / LOGS, sites.elsewhere) as fleet,
            Coordinator(sites.listen, sites.identities.own) as coordinator,
        ):
            stage = Stage(scenario, sites, fleet, coordinator, Path(downloads))
            async with stage.opened:
                yield stage


class Stage:
    """Starts what a run needs, and plays it.

    Args:
        scenario: says how many devices there are.
        sites: where processes are.
        fleet: where processes are started.
        coordinator: where device processes dial in.
        downloads: each process downloads its own bundles there, as a phone would, so that their
            bytes are counted.
        clock: monotonic seconds, for what is measured.

    Attributes:
        opened: closes what the stage has opened.
        clouds: resident bytes of every cloud process so far at its end, by process id.
    """

    def __init__(
        self,
        scenario: Setting,
        sites: Sites,
        fleet: Fleet,
        coordinator: Coordinator,
        downloads: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scenario, self._sites = scenario, sites
        self._fleet, self._coordinator = fleet, coordinator
        self._downloads, self._clock = downloads, clock
        self.opened = AsyncExitStack()
        self._cloud_address = sites.serve
        self._devices: list[Process] = []
        self._links: list[DeviceLink] = []
        self._proxy: Proxy | None = None
        self.clouds: dict[int, int] = {}

    @property
    def joined(self) -> int:
        """Device processes that are there now."""
        return self._coordinator.joined

    async def play(self, run: Run[Playable]) -> None:
        """Serve the run's bundle and replay it; fills ``run``.

        Raises:
            RunFailed: a process ended, or said that it cannot go on, or the accounts of devices and
                cloud differ.
        """
        ledger = self._folder / f"exchanges-{run.name}.parquet"
        if run.drill is not None:
            await self._play_under(run, run.drill, self._prepared(run, ledger))
            return
        cloud = await self._serve(run, ledger)
        if run.history:
            note_kept(own_folder(self._folder, run.name), run.flags)
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

    async def _play_under(self, run: Run[Playable], drill: Drill, command: Sequence[str]) -> None:
        """As `play`, while things go wrong; fills ``drill``.

        Raises:
            RunFailed: what was acknowledged is not there, or something else that must not be.
        """
        own = self._sites.identities.own
        keeper = CloudKeeper(self._fleet, f"cloud-{run.name}", command, drill.serving, own)
        self._cloud_address = await keeper.start()
        note_kept(own_folder(self._folder, run.name), run.flags)
        if not self._links:
            await self._gather()
        troupe = self._troupe(run, drill, keeper)
        start = self._clock()
        go_on = partial(self._retrain, run, run.continual) if run.continual else None
        work = run.replay.play(list(troupe.links.values()), go_on)
        try:
            run.accounts = await self._fleet.while_alive(drill.chaos.play(troupe, work))
        finally:
            self._devices = list(troupe.devices.values())
            self._links = [link.life for link in troupe.links.values()]
        run.seconds = self._clock() - start
        await keeper.stop()
        self.clouds |= keeper.resident
        drill.conclude(keeper)
        drill.verdicts = require_kept(own_folder(self._folder, run.name))

    def _troupe(self, run: Run[Playable], drill: Drill, keeper: CloudKeeper) -> Troupe:
        by_pid = {process.pid: process.name.partition(".")[0] for process in self._devices}

        async def settled(round_: int) -> None:
            await drill.chaos.settled(round_)
            await keeper.up()

        links = {by_pid[each.pid]: Reviving(each, settled) for each in self._links}
        return Troupe(
            fleet=self._fleet,
            coordinator=self._coordinator,
            keeper=keeper,
            devices={by_pid[process.pid]: process for process in self._devices},
            links=links,
            proxy=self._proxy,
            link=link(self._scenario.link or "none"),
            bundles=self._bundles(run),
            downloads=self._downloads,
            device=self._sites.identities.of(Role.DEVICE),
        )

    async def dismiss(self) -> None:
        """Let the device processes end by themselves."""
        await asyncio.gather(*(each.leave() for each in self._links))
        for process in self._devices:
            await self._fleet.ended(process)

    async def _retrain(self, run: Run[Playable], how: Continual) -> Bundle:
        """Train on what was uploaded; what is released then, the cloud announces by itself."""
        number, own = len(run.replay.releases), own_folder(self._folder, run.name)
        job = Retraining(
            name=f"retrain-{run.name}-{number}",
            method=run.resolved.method,
            title=run.resolved.title(run.seed),
            own=own,
            out=own / f"retrain-{number}",
            how=how,
        )
        return await retrained(self._fleet, job, run.drill)

    @property
    def _folder(self) -> Path:
        """Where results go, by a name that holds whoever works there."""
        return self._scenario.folder.resolve()

    async def _serve(self, run: Run[Playable], ledger: Path) -> Process:
        command = self._prepared(run, ledger)
        cloud = self._fleet.start(f"cloud-{run.name}", *command)
        self.clouds[cloud.pid] = 0
        # Devices know one address: every cloud of this stage takes the first one's.
        self._cloud_address = await self._fleet.line(cloud, "listening on ", _READY_S)
        return cloud

    def _prepared(self, run: Run[Playable], ledger: Path) -> tuple[str, ...]:
        """Make room for what a run's cloud is told; the command that starts it."""
        own = own_folder(self._folder, run.name)
        # What an earlier run stored is not this one's past.
        shutil.rmtree(own, ignore_errors=True)
        ledger.unlink(missing_ok=True)
        own.mkdir(parents=True)
        bundles = self._bundles(run)
        if bundles != run.trained.bundles:
            # Other runs begin with the same bundle, and not with what follows it in this one.
            shutil.copytree(run.trained.bundles, bundles)
        places = {"--bundles": bundles, "--journal": own / JOURNAL, "--ledger": ledger}
        if run.drill or run.history:
            places["--memory"] = own / MEMORY
        return (
            CLOUD,
            "serve",
            "--listen",
            self._cloud_address,
            *(part for option, path in places.items() for part in (option, str(path))),
            *self._sites.cloud_identity,
            *(part for flag in ("replays=true", *run.flags) for part in ("--set", flag)),
        )

    def _bundles(self, run: Run[Playable]) -> Path:
        """What the cloud of a run serves: its own folder, where that changes in the run."""
        if run.continual or run.drill:
            return own_folder(self._folder, run.name) / BUNDLES
        return run.trained.bundles

    async def _gather(self) -> None:
        if self._sites.devices_come:
            self._links = await self._coordinator.assembled(self._scenario.expected)
            return
        cloud = await self._over_a_link(self._cloud_address)
        known = self._sites.identities.option(Role.DEVICE)
        places = ("--cloud", cloud, "--simulation", self._coordinator.address, *known)
        for index in range(self._scenario.devices):
            name = f"device-{index}"
            own = ("--bundles", str(self._downloads / name))
            self._devices.append(self._fleet.start(name, DEVICE, "run", *places, *own))
        self._links = await self._fleet.while_alive(
            self._coordinator.gathered(self._scenario.devices)
        )

    async def _over_a_link(self, cloud: str) -> str:
        """Where devices find ``cloud``: behind a proxy where the scenario has a link."""
        name = self._scenario.link
        if self._scenario.faults is not None and self._scenario.faults.needs_link:
            # What is cut and slowed down on purpose is carried in this process, within reach.
            shaped = shaping(link(name or "none"), cloud, seed=self._scenario.data_seed)
            self._proxy = await self.opened.enter_async_context(shaped)
            return self._proxy.address
        if name is None:
            return cloud
        places = ("--to", cloud, "--listen", _ANY_PORT)
        seed = ("--seed", str(self._scenario.data_seed))
        proxy = self._fleet.start("link", SHAPER, "shape", "--link", name, *places, *seed)
        return await self._fleet.line(proxy, "listening on ", _READY_S)
