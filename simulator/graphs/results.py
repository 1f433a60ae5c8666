"""The folder of a run on a graph: ``metrics.json``, ``classified.parquet``, ledger and page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from shared_models.contract.traffic import BUNDLE, PAYLOAD
from shared_models.logs.graphs.labelled import LabelledGraph
from simulator.environment import describe
from simulator.graphs.replay import GraphReplay
from simulator.graphs.scenario import GraphScenario
from simulator.graphs.summary import METRICS, Json, by_shift, by_step, milliseconds
from simulator.ledger import Ledger
from simulator.results import Folder
from simulator.runs import Run

_HERE: Final = Path(__file__).parent
_STYLE: Final = _HERE.parent / "report" / "style.css"
_SHIFTS: Final = {
    "classes": "At 0 devices' centres are test nodes as they come; at .5 all classes are alike; "
    "at 1 their balance is turned round.",
    "degree": "At 0 devices' centres are test nodes as they come; at 1 they have few neighbours.",
}


class GraphResults:
    """What an experiment found so far; written anew after each run.

    Args:
        scenario: what is played.
        graph: on which.
    """

    def __init__(self, scenario: GraphScenario, graph: LabelledGraph) -> None:
        self._scenario, self._graph = scenario, graph
        self._files = Folder(scenario.folder)
        self._runs: list[Run[GraphReplay]] = []

    def add(self, run: Run[GraphReplay], clouds: Mapping[int, int]) -> None:
        """Take in a run; of one that was cut short, the steps that came to their end."""
        if not run.replay.played:
            return
        self._runs.append(run)
        summary = self.summary
        self._files.parquet("classified.parquet", pl.concat(map(_classified, self._runs)))
        self._files.parquet("ledger.parquet", self._ledger().frame())
        self._files.text("scenario.json", self._scenario.model_dump_json(indent=1))
        self._files.json("environment.json", describe(clouds, run.accounts))
        self._files.json("metrics.json", summary)
        self._files.text("report.html", page(summary, self._scenario))

    @property
    def summary(self) -> Json:
        """The content of ``metrics.json``; all but ``measured`` is the same in every repetition."""
        runs: dict[str, list[GraphReplay]] = {}
        for run in self._runs:
            runs.setdefault(run.label, []).append(run.replay)
        ledger, how = self._ledger(), self._scenario.graph
        return {
            "protocol": f"{self._graph.name} ({self._graph.hash[:8]}), node-classification, "
            f"{how.devices} devices at each strength of a shift of {how.shift}, {how.kind} graphs "
            f"of at most {how.nodes} nodes, data seed {self._scenario.data_seed}",
            "by_shift": by_shift(runs),
            "by_step": by_step(runs),
            "bytes": {
                entry: {
                    "payload_up": (payload := ledger.total(*PAYLOAD, method=entry)).up,
                    "payload_down": payload.down,
                    "bundles_down": ledger.total(BUNDLE, method=entry).down,
                }
                for entry in dict.fromkeys(run.label for run in self._runs if run.accounts)
            },
            "measured": {entry: milliseconds(replays) for entry, replays in runs.items()},
        }

    def _ledger(self) -> Ledger:
        ledger = Ledger()
        for run in self._runs:
            for account in run.accounts:
                ledger.add(run.label, run.seed, account.done.traffic, run.in_flight)
        return ledger


def page(summary: Json, scenario: GraphScenario) -> str:
    """The run for people who did not make it, in one file."""
    loader = FileSystemLoader(_HERE)
    templates = Environment(loader=loader, undefined=StrictUndefined, autoescape=True)
    return templates.get_template("page.html.j2").render(
        summary=summary,
        how=scenario.graph,
        shift=_SHIFTS[scenario.graph.shift],
        metrics=METRICS,
        style=_STYLE.read_text(),
    )


def _classified(run: Run[GraphReplay]) -> pl.DataFrame:
    """A row for each node classified in a whole step.

    Columns: entry, seed, device, strength, step, node, label, scores.
    """
    replay = run.replay
    return pl.DataFrame(
        [
            (
                *(run.label, run.seed, user, replay.holdings[user].strength, step + 1),
                *(replay.graph.ids[node], label.tolist(), scores.tolist()),
            )
            for (step, user), said in sorted(replay.said.items())
            if step < replay.played
            for node, label, scores in zip(
                replay.asked(user, step).tolist(),
                replay.graph.labels_NC[replay.asked(user, step)].astype(int),
                said,
                strict=True,
            )
        ],
        schema={
            "entry": pl.String,
            "seed": pl.Int64,
            "device": pl.Int64,
            "strength": pl.Float64,
            "step": pl.Int64,
            "node": pl.String,
            "label": pl.List(pl.Int8),
            "scores": pl.List(pl.Float32),
        },
        orient="row",
    )
