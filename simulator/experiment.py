"""A scenario from beginning to end: check, train what is not trained yet, replay, report.

Nothing is written to the results before everything that the user gave has been checked. A run that
is cut short leaves a report of what was measured until then.
"""

import asyncio
import json
import os
from dataclasses import dataclass, replace

from device_client.settings import DeviceSettings
from shared_models.contract.errors import BadSetting, TooSmall
from shared_models.contract.settings import validated
from shared_models.contract.tensors import Int64Array
from shared_models.logs.moments import FULL, Moments, protocol_name, replay_moments
from shared_models.logs.prepare import Columns, cache_root, open_or_prepare
from shared_models.logs.prepared import PreparedLog
from simulator.cache import BundleCache, Resolved, Trained, resolve
from simulator.compose import narrowed
from simulator.drill import drill_of
from simulator.entries import Entry, read_entry
from simulator.faults import strikes
from simulator.links import Link, link
from simulator.meter import Meter
from simulator.metrics import ReplayMetrics
from simulator.places import HISTORY, own_folder
from simulator.progress import Display
from simulator.replay import Replay
from simulator.results import Results
from simulator.retraining import Continual
from simulator.rounds import Rules, legs, parts
from simulator.runs import Run, run_name
from simulator.scenario import Scenario
from simulator.sites import LOCAL, Sites
from simulator.stage import Stage, open_stage
from simulator.tally import Tally
from simulator.windows import initial_windows, known_profiles


@dataclass(frozen=True, slots=True)
class Play:
    """An entry that was checked.

    Attributes:
        label: of the entry.
        resolved: its method.
        device: settings of its devices.
        rules: how its replay goes.
        flags: ``path=value`` settings of its serving cloud.
        recipe: arguments for a cloud that goes on training it.
    """

    label: str
    resolved: Resolved
    device: DeviceSettings
    rules: Rules
    flags: tuple[str, ...]
    recipe: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A scenario that was checked, the log that it plays, and the links to model latency over."""

    scenario: Scenario
    plays: tuple[Play, ...]
    log: PreparedLog
    moments: Moments
    links: tuple[Link, ...]
    sites: Sites = LOCAL

    @property
    def protocol(self) -> str:
        """One line that says how the figures were taken."""
        replay = self.scenario.replay
        name = protocol_name(self.log, replay.candidates, self.scenario.data_seed)
        return name if replay.moments is None else f"{name}; first {len(self.moments)} moments only"

    @property
    def cuts(self) -> tuple[int, ...]:
        """Moments from which on an entry may run another bundle."""
        cut = (legs(self.moments, play.rules) for play in self.plays)
        return tuple(sorted({leg[0].start for own in cut for leg in own}))

    @property
    def cache(self) -> BundleCache:
        """Where its trained models are kept."""
        log, where = self.log, self.sites.elsewhere
        return BundleCache(cache_root(), self.scenario.split, log.folder, log.hash, elsewhere=where)


def plan(scenario: Scenario, sites: Sites = LOCAL) -> Plan:
    """Check everything that the user gave, and open the log.

    Raises:
        InputError: something in it is wrong; nothing was written but the cached log.
    """
    _refuse_out_of_reach(scenario, sites)
    links = _modelled_over(scenario)
    if scenario.link is not None:
        link(scenario.link)
    checked = [_checked(scenario, read_entry(text), sites) for text in scenario.methods]
    columns = Columns(**scenario.columns.model_dump())
    log = open_or_prepare(scenario.log, columns, scenario.split)
    replay = scenario.replay
    moments = replay_moments(log, replay.candidates, data_seed=scenario.data_seed)[: replay.moments]
    if not len(moments):
        raise TooSmall(f"{log.manifest.name}: nobody does anything twice in the test part")
    plays = tuple(_play(own, log, replay.candidates) for own in checked)
    if scenario.faults is not None:
        for play in plays:
            strikes(scenario.faults, parts(moments, play.rules.round_events))
    return Plan(scenario, plays, log, moments, links, sites)


def _modelled_over(scenario: Scenario) -> tuple[Link, ...]:
    """The links of which latency is modelled.

    Raises:
        BadSetting: two go by one name, which is that of their figures.
    """
    links = {}
    for text in scenario.links:
        found = link(text)
        if found.name in links:
            raise BadSetting("links", f"two are called {found.name!r}: rename a trace's file")
        links[found.name] = found
    return tuple(links.values())


def _refuse_out_of_reach(scenario: Scenario, sites: Sites) -> None:
    """Refuse what is done to processes on this machine only, where they are on another one."""
    if scenario.faults is not None and (sites.devices_come or sites.elsewhere):
        raise BadSetting("faults", "only what is started on this machine is killed")
    if scenario.history and sites.devices_come:
        raise BadSetting("history", "only devices that are started on this machine write it here")


@dataclass(frozen=True, slots=True)
class _Checked:
    """An entry whose settings make sense by themselves."""

    label: str
    scenario: Scenario
    resolved: Resolved
    device: DeviceSettings


def _checked(scenario: Scenario, entry: Entry, sites: Sites) -> _Checked:
    narrow = narrowed(scenario, entry)
    device = validated(DeviceSettings, "device", narrow.device_settings)
    resolved = resolve(narrow, entry.method, sites.elsewhere)
    return _Checked(entry.label, narrow, resolved, device)


def _play(own: _Checked, log: PreparedLog, candidates: str) -> Play:
    """How ``own`` is played on ``log``.

    Raises:
        BadSetting: it is to be trained on uploads, and there would be none.
    """
    replay, method = own.scenario.replay, own.resolved.method
    if replay.retrain and log.task != "next-item":
        raise BadSetting("replay.retrain", f"{log.manifest.name} holds exposures: none goes up")
    if replay.retrain and not own.resolved.config["uploads"]:
        raise BadSetting(
            "replay.retrain", f"devices of {own.label} upload nothing: set {method}.uploads=true"
        )
    rules = Rules(
        replay.round_events,
        candidates == FULL and log.task == "next-item",
        own.device.model_dump_json(exclude_unset=True),
        replay.retrain,
    )
    flags, recipe = own.scenario.cloud_flags, own.scenario.recipe
    return Play(own.label, own.resolved, own.device, rules, tuple(flags), tuple(recipe))


async def perform(plan: Plan, display: Display, metrics: ReplayMetrics) -> Results:
    """Train, serve and replay every method with every seed, and write the results.

    Args:
        plan: what was checked.
        display: told how it goes.
        metrics: where it is counted.

    Raises:
        RunFailed: a process ended badly; what was measured until then is written.
    """
    # Devices that come by themselves may do so while the cloud trains.
    async with open_stage(plan.scenario, plan.sites) as stage:
        metrics.joined = lambda: stage.joined
        trained = await _train(plan, display)
        results = Results(plan.scenario, plan.protocol, plan.log.users, plan.links, plan.cuts)
        try:
            await _replay(plan, stage, trained, results, display, metrics)
        finally:
            results.report()
    return results


async def _train(plan: Plan, display: Display) -> list[tuple[Play, int, Trained]]:
    """The model of every play and seed, in the order of the plays."""
    cores = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(play: Play, seed: int) -> tuple[Play, int, Trained]:
        async with cores:  # a training keeps one core busy
            return play, seed, await plan.cache.trained(play.resolved, seed, display.say)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(one(play, seed))
                for play in plan.plays
                for seed in plan.scenario.seeds
            ]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in tasks]


async def _replay(
    plan: Plan,
    stage: Stage,
    trained: list[tuple[Play, int, Trained]],
    results: Results,
    display: Display,
    metrics: ReplayMetrics,
) -> None:
    for play, seed, model in trained:
        run = _run(plan, play, seed, model, display, metrics)
        try:
            await stage.play(run)
        finally:
            results.add(run, stage.clouds)
    await stage.dismiss()


def _run(
    plan: Plan, play: Play, seed: int, trained: Trained, display: Display, metrics: ReplayMetrics
) -> Run:
    length = play.device.memory(trained.bundle.manifest)
    windows = initial_windows(plan.log, plan.moments, length)
    title = f"{play.label} ({play.resolved.trunk}, seed {seed})"
    meter = Meter(title, plan.moments)
    counts = metrics.begin(play.label, seed, trained.bundle.id, len(plan.moments))

    def on_report(tally: Tally, about: Int64Array, traffic: tuple[int, int]) -> None:
        display.show(meter.read(tally, about, traffic))
        counts.ranked(tally, about)

    reads_profile = trained.bundle.manifest.features.profile is not None
    profiles = known_profiles(plan.log) if reads_profile else {}
    rules = _recorded(plan.scenario, play, seed)
    replay = Replay(plan.moments, windows, trained.bundle, rules, on_report, profiles)
    replay.on_round = counts.round_done
    continual = None
    if play.rules.retrain:
        continual = Continual(plan.log.folder, play.recipe, display.say)
    faults = plan.scenario.faults
    return Run(
        play.label,
        play.resolved,
        seed,
        trained,
        replay,
        flags=play.flags,
        continual=continual,
        in_flight=play.device.crossing,
        history=plan.scenario.history,
        drill=drill_of(faults, replay) if faults else None,
    )


def _recorded(scenario: Scenario, play: Play, seed: int) -> Rules:
    """The rules of a play whose devices write down what is acknowledged, where they should."""
    if not (scenario.faults or scenario.history):
        return play.rules
    folder = own_folder(scenario.folder.absolute(), run_name(play.label, seed)) / HISTORY
    device = {**json.loads(play.rules.device), "history": str(folder)}
    return replace(play.rules, device=json.dumps(device), live=scenario.faults is not None)
