"""A scenario from beginning to end: check, train what is not trained yet, replay, report.

Nothing is written to the results before everything that the user gave has been checked. A run that
is cut short leaves a report of what was measured until then.
"""

import asyncio
import os
from dataclasses import dataclass

from device_client.settings import DeviceSettings
from shared_models.contract.errors import TooSmall
from shared_models.contract.settings import validated
from shared_models.contract.tensors import Int64Array
from shared_models.logs.moments import FULL, Moments, protocol_name, replay_moments
from shared_models.logs.prepare import Columns, cache_root, open_or_prepare
from shared_models.logs.prepared import PreparedLog
from simulator.cache import BundleCache, Resolved, Trained, resolve
from simulator.meter import Meter
from simulator.progress import Display
from simulator.replay import Replay, Rules
from simulator.results import Results
from simulator.scenario import Scenario
from simulator.stage import Run, open_stage
from simulator.tally import Tally
from simulator.windows import initial_windows


@dataclass(frozen=True, slots=True)
class Plan:
    """A scenario that was checked, and the log that it plays."""

    scenario: Scenario
    methods: tuple[Resolved, ...]
    log: PreparedLog
    moments: Moments
    rules: Rules
    device: DeviceSettings

    @property
    def protocol(self) -> str:
        """One line that says how the figures were taken."""
        replay = self.scenario.replay
        name = protocol_name(self.log, replay.candidates, self.scenario.data_seed)
        return name if replay.moments is None else f"{name}; first {len(self.moments)} moments only"


def plan(scenario: Scenario) -> Plan:
    """Check everything that the user gave, and open the log.

    Raises:
        InputError: something in it is wrong; nothing was written but the cached log.
    """
    device = validated(DeviceSettings, "device", scenario.device)
    methods = tuple(resolve(scenario, method) for method in scenario.methods)
    columns = Columns(**scenario.columns.model_dump())
    log = open_or_prepare(scenario.log, columns, scenario.split)
    replay = scenario.replay
    moments = replay_moments(log, replay.candidates, data_seed=scenario.data_seed)[: replay.moments]
    if not len(moments):
        raise TooSmall(f"{log.manifest.name}: nobody does anything twice in the test part")
    whole = replay.candidates == FULL and log.task == "next-item"
    rules = Rules(replay.round_events, whole, device.model_dump_json(exclude_unset=True))
    return Plan(scenario, methods, log, moments, rules, device)


async def perform(plan: Plan, display: Display) -> Results:
    """Train, serve and replay every method with every seed, and write the results.

    Raises:
        RunFailed: a process ended badly; what was measured until then is written.
    """
    trained = await _train(plan, display)
    results = Results(plan.scenario, plan.protocol, plan.log.users)
    await _replay(plan, trained, results, display)
    return results


async def _train(plan: Plan, display: Display) -> list[tuple[Resolved, int, Trained]]:
    cache = BundleCache(cache_root(), plan.scenario.split, plan.log.folder, plan.log.hash)
    cores = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(resolved: Resolved, seed: int) -> tuple[Resolved, int, Trained]:
        async with cores:  # a training keeps one core busy
            return resolved, seed, await cache.trained(resolved, seed, display.say)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(one(resolved, seed))
                for resolved in plan.methods
                for seed in plan.scenario.seeds
            ]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in tasks]


async def _replay(
    plan: Plan, trained: list[tuple[Resolved, int, Trained]], results: Results, display: Display
) -> None:
    async with open_stage(plan.scenario) as stage:
        for resolved, seed, model in trained:
            run = _run(plan, resolved, seed, model, display)
            try:
                await stage.play(run)
            finally:
                results.add(run, stage.clouds)
        await stage.dismiss()


def _run(plan: Plan, resolved: Resolved, seed: int, trained: Trained, display: Display) -> Run:
    length = plan.device.memory(trained.bundle.manifest)
    windows = initial_windows(plan.log, plan.moments, length)
    meter = Meter(resolved.title(seed), plan.moments)

    def on_report(tally: Tally, about: Int64Array, traffic: tuple[int, int]) -> None:
        display.show(meter.read(tally, about, traffic))

    replay = Replay(plan.moments, windows, trained.bundle, plan.rules, on_report)
    return Run(resolved, seed, trained, replay, in_flight=plan.device.in_flight)
