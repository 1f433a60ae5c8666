"""A run on a graph from its options to its results, with fakes for the cloud and the stage."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared_models.contract.errors import BadSetting, RunFailed
from shared_models.logs.graphs.labelled import LabelledGraph
from shared_models.logs.graphs.write import write_graph
from simulator.cache import BundleCache, Resolved, Trained
from simulator.graphs import experiment
from simulator.graphs.experiment import perform_on_graph, plan_on_graph
from simulator.graphs.replay import GraphReplay
from simulator.graphs.scenario import GraphScenario, Holdings
from simulator.runs import Run
from tests.device_client.node_bundles import CLASSES, node_bundle

HOW = Holdings(devices=6, strengths=(0.0, 1.0), steps=3, nodes=40)
TWO = ("ggcn", "other: ggcn[ggcn.absent=identity]")


@pytest.fixture
def prefix(graph: LabelledGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a graph on disk, of which a fake cloud resolves settings."""

    def resolved(method: str, kind: str, _: object, settings: list[str], *__: object) -> Resolved:
        absent = "identity" if "ggcn.absent=identity" in settings else "degree"
        return Resolved(method, kind, (), "key", "export", {"nodes": {}, "absent": absent})

    monkeypatch.setattr(experiment, "resolved", resolved)
    write_graph(graph, tmp_path / "rare")
    return tmp_path / "rare"


def scenario(prefix: Path, **options: Any) -> GraphScenario:
    return GraphScenario(prefix=prefix, out=prefix.parent / "run", graph=HOW, **options)


def test_graphs_that_devices_would_forget_are_refused_before_anything_is_trained(
    prefix: Path,
) -> None:
    plan_on_graph(scenario(prefix, device={"graph_nodes": 40}))

    with pytest.raises(
        BadSetting, match=r"device\.graph_nodes.* has 40 nodes; .*graph\.nodes to 39"
    ):
        plan_on_graph(scenario(prefix, device={"graph_nodes": 39}))


def test_entries_that_stand_other_things_for_features_are_played_apart(prefix: Path) -> None:
    features = prefix.with_name(f"{prefix.name}-feats.npy")
    plan_on_graph(scenario(prefix, methods=TWO))
    features.unlink()

    with pytest.raises(BadSetting, match=r"ggcn\.absent.* other has 'identity' and ggcn 'degree'"):
        plan_on_graph(scenario(prefix, methods=TWO))
    for alone in TWO:
        plan_on_graph(scenario(prefix, methods=(alone,)))


class BreakingStage:
    """Ends after the first step of a run."""

    def __init__(self) -> None:
        self.clouds: dict[int, int] = {}

    async def play(self, run: Run[GraphReplay]) -> None:
        for user in range(len(run.replay.holdings)):
            asked = len(run.replay.asked(user, 0))
            run.replay.said[0, user] = np.zeros((asked, CLASSES), np.float32)
            run.replay.seconds[0, user] = 0.001
        raise RunFailed("a device process ended")


async def test_what_was_measured_before_a_run_broke_is_written(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def breaking(*_: object) -> AsyncIterator[BreakingStage]:
        yield BreakingStage()

    async def trained(*_: object) -> Trained:
        return Trained(tmp_path, node_bundle())

    monkeypatch.setattr(experiment, "open_stage", breaking)
    monkeypatch.setattr(BundleCache, "trained", trained)

    with pytest.raises(RunFailed, match="a device process ended"):
        await perform_on_graph(plan_on_graph(scenario(prefix)), lambda _: None)

    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {row["step"] for row in metrics["by_step"]} == {1}
    assert metrics["by_shift"] == []
