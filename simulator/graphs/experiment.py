"""A run on a graph from beginning to end: check, train what is not trained yet, replay, report."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from device_client.settings import DeviceSettings
from shared_models.contract.errors import BadSetting
from shared_models.contract.settings import validated
from shared_models.logs.graphs.labelled import LabelledGraph
from shared_models.logs.graphs.read import has_features, read_graph
from shared_models.logs.prepare import cache_root
from simulator.cache import BundleCache, Resolved, Say, resolved
from simulator.entries import Entry, read_entry
from simulator.graphs.holdings import Holding, draw_holdings
from simulator.graphs.replay import GraphReplay
from simulator.graphs.results import GraphResults
from simulator.graphs.scenario import GraphScenario
from simulator.graphs.summary import METRICS, Json
from simulator.runs import Run
from simulator.scenario import assignments
from simulator.sites import LOCAL, Sites
from simulator.stage import open_stage

_SPLIT = "graph"


@dataclass(frozen=True, slots=True)
class GraphPlan:
    """A scenario that was checked, its graph, and who holds what of it."""

    scenario: GraphScenario
    plays: tuple[tuple[Entry, Resolved], ...]
    device: DeviceSettings
    graph: LabelledGraph
    holdings: tuple[Holding, ...]
    sites: Sites = LOCAL


def plan_on_graph(scenario: GraphScenario, sites: Sites = LOCAL) -> GraphPlan:
    """Check everything that the user gave.

    Raises:
        InputError: something in it is wrong; nothing was written.
    """
    device = validated(DeviceSettings, "device", scenario.device)
    entries = [read_entry(text) for text in scenario.methods]
    plays = tuple((entry, _resolved(scenario, entry, sites)) for entry in entries)
    _refuse_other_features(scenario, plays)
    graph = read_graph(scenario.prefix, plays[0][1].config["absent"])
    holdings = draw_holdings(graph, scenario.graph, scenario.data_seed)
    _refuse_to_forget(device, holdings)
    return GraphPlan(scenario, plays, device, graph, tuple(holdings), sites)


def _refuse_other_features(
    scenario: GraphScenario, plays: Sequence[tuple[Entry, Resolved]]
) -> None:
    """Entries play one graph: what stands for features that it lacks must be the same for all."""
    if has_features(scenario.prefix):
        return
    first, known = plays[0][0].label, plays[0][1].config["absent"]
    for entry, one in plays:
        if (own := one.config["absent"]) != known:
            raise BadSetting(
                f"{entry.method}.absent",
                f"{entry.label} has {own!r} and {first} {known!r}, but {scenario.prefix.name} has "
                "no features: play them apart",
            )


def _refuse_to_forget(device: DeviceSettings, holdings: Sequence[Holding]) -> None:
    """A device is asked about every node that it met, at every step."""
    largest = max(len(holding.nodes_M) for holding in holdings)
    if largest > device.graph_nodes:
        raise BadSetting(
            "device.graph_nodes",
            f"devices would forget what they are asked about: the largest graph has {largest} "
            f"nodes; set it to that, or graph.nodes to {device.graph_nodes}",
        )


def _resolved(scenario: GraphScenario, entry: Entry, sites: Sites) -> Resolved:
    method, settings = entry.method, scenario.cloud_settings(entry)
    prefix = scenario.prefix.name
    serving, arguments = assignments(scenario.cloud), ("--method", method)
    found = resolved(method, prefix, arguments, settings, sites.elsewhere, serving)
    if "nodes" not in found.config:
        raise BadSetting("prefix", f"{method} ranks items and reads no graph: give --log")
    return found


async def perform_on_graph(plan: GraphPlan, say: Say) -> GraphResults:
    """Train, serve and replay every entry with every seed, and write the results.

    Raises:
        RunFailed: a process ended badly; what was measured until then is written.
    """
    scenario, graph = plan.scenario, plan.graph
    place, where = scenario.prefix.resolve(), plan.sites.elsewhere
    cache = BundleCache(cache_root(), _SPLIT, place, graph.hash, option="--prefix", elsewhere=where)
    results = GraphResults(scenario, graph)
    trained = [
        (entry, one, seed, await cache.trained(one, seed, say))
        for entry, one in plan.plays
        for seed in scenario.seeds
    ]
    async with open_stage(scenario, plan.sites) as stage:
        for entry, one, seed, model in trained:
            device = plan.device.model_dump_json(exclude_unset=True)
            replay = GraphReplay(graph, plan.holdings, model.bundle, device)
            flags = tuple(assignments(scenario.cloud))
            run = Run(entry.label, one, seed, model, replay, flags)
            say(f"plays {one.title(seed)} on {len(plan.holdings)} devices")
            try:
                await stage.play(run)
            finally:
                results.add(run, stage.clouds)
        await stage.dismiss()
    return results


def shift_table(summary: Json) -> Table:
    """What a run found, for a terminal."""
    table = Table("entry", "strength", "nodes", *METRICS, "gain")
    for row in summary["by_shift"]:
        figures = [_figure(row[name]) for name in METRICS]
        gain = _figure(row["gain"]) if "gain" in row else ""
        table.add_row(row["entry"], str(row["strength"]), str(row["nodes"]), *figures, gain)
    return table


def _figure(found: Json) -> str:
    if "low" not in found:
        return f"{found['mean']:.4f}"
    return f"{found['mean']:.4f} ({found['low']:.4f} to {found['high']:.4f})"
