"""The replay on graphs over fake device processes, and what is made of it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, f1_score

from protos.v1.simulation_pb2 import Classified
from shared_models.contract.errors import BadSetting, RunFailed, UnknownName
from shared_models.logs.graphs.labelled import LabelledGraph
from simulator.cache import Resolved, Trained
from simulator.coordinator import Coordinator
from simulator.entries import read_entry
from simulator.graphs.holdings import draw_holdings
from simulator.graphs.replay import GraphReplay
from simulator.graphs.results import GraphResults
from simulator.graphs.scenario import GraphScenario, Holdings, graph_scenario
from simulator.graphs.summary import by_shift, by_step
from simulator.runs import Run
from tests.device_client.node_bundles import WEIGHTS, node_bundle
from tests.simulator.graphs.conftest import FakeGraphDevices

Crowd = Callable[..., list[FakeGraphDevices]]
RESOLVED = Resolved("tiny", "rare", (), "key", "export", {})
HOW = Holdings(devices=6, strengths=(0.0, 1.0), steps=3, nodes=40)


async def play(
    crowd: Crowd, graph: LabelledGraph, count: int, lies: Callable[[Classified], None] | None = None
) -> tuple[GraphReplay, list[FakeGraphDevices]]:
    bundle = node_bundle()
    replay = GraphReplay(graph, draw_holdings(graph, HOW, 0), bundle, '{"graph_nodes":50}')
    async with Coordinator() as coordinator:
        fakes = crowd(coordinator.address, count, bundle, *([lies] if lies else []))
        await replay.play(await coordinator.gathered(count, 10))
    return replay, fakes


async def test_the_number_of_device_processes_changes_nothing(
    graph_crowd: Crowd, graph: LabelledGraph
) -> None:
    (alone, _), (together, _) = [await play(graph_crowd, graph, count) for count in (1, 3)]

    assert by_shift({"a": [alone]}) == by_shift({"a": [together]})
    assert by_step({"a": [alone]}) == by_step({"a": [together]})


async def test_devices_meet_their_nodes_and_edges_step_by_step(
    graph_crowd: Crowd, graph: LabelledGraph
) -> None:
    replay, fakes = await play(graph_crowd, graph, 2)

    assert sorted(user for fake in fakes for user in fake.met) == list(range(12))
    assert {fake.settings for fake in fakes} == {'{"graph_nodes":50}'}
    for fake in fakes:
        for user, arrivals in fake.met.items():
            nodes = replay.holdings[user].nodes_M
            part = graph.graph.part(nodes)
            pairs = np.concatenate(
                [np.frombuffer(each.pairs, "<i4").reshape(2, -1) for each in arrivals], 1
            )
            np.testing.assert_array_equal(fake.features(user), part.features_NF)
            degrees = np.frombuffer(arrivals[-1].degrees, "<f4")
            np.testing.assert_array_equal(degrees, graph.graph.degrees_N[nodes])
            assert len(arrivals) == 3
            assert sorted(map(tuple, pairs.T.tolist())) == [
                (one, other) for one, other in part.edges_2E.T.tolist() if one < other
            ]


async def test_an_edge_arrives_with_the_later_of_its_ends(
    graph_crowd: Crowd, graph: LabelledGraph
) -> None:
    replay, (fake,) = await play(graph_crowd, graph, 1)

    for user, arrivals in fake.met.items():
        ends = [0, *replay.holdings[user].ends]
        for step, arrival in enumerate(arrivals):
            later = np.frombuffer(arrival.pairs, "<i4").reshape(2, -1).max(0, initial=ends[step])
            assert ((later >= ends[step]) & (later < ends[step + 1])).all()


async def test_figures_are_those_of_scikit_learn(graph_crowd: Crowd, graph: LabelledGraph) -> None:
    replay, _ = await play(graph_crowd, graph, 2)

    rows = by_shift({"tiny": [replay]})

    for row in rows:
        users = [h.user for h in replay.holdings if h.strength == row["strength"]]
        nodes = np.concatenate([replay.asked(user, 2) for user in users])
        said = (graph.graph.features_NF[nodes] @ WEIGHTS).argmax(1)
        true = graph.labels_NC[nodes].argmax(1)
        assert row["nodes"] == len(nodes)
        assert row["accuracy"]["mean"] == pytest.approx(accuracy_score(true, said))
        assert row["micro_f1"]["mean"] == pytest.approx(f1_score(true, said, average="micro"))
        assert row["macro_f1"]["mean"] == pytest.approx(f1_score(true, said, average="macro"))
        assert row["accuracy"]["low"] <= row["accuracy"]["mean"] <= row["accuracy"]["high"]
    assert [row["strength"] for row in rows] == [0.0, 1.0]


async def test_an_entry_is_compared_with_the_first_device_by_device(
    graph_crowd: Crowd, graph: LabelledGraph
) -> None:
    replay, _ = await play(graph_crowd, graph, 1)

    rows = by_shift({"one": [replay], "same": [replay]})

    assert [("gain" in row) for row in rows] == [False, True] * 2
    assert rows[1]["gain"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


async def test_a_gain_is_taken_over_the_seeds_that_both_have_played(
    graph_crowd: Crowd, graph: LabelledGraph
) -> None:
    replay, _ = await play(graph_crowd, graph, 1)
    other, _ = await play(graph_crowd, graph, 1)
    other.said = {about: -scores for about, scores in other.said.items()}

    rows = by_shift({"two": [replay, other], "cut short": [replay]})

    assert rows[0]["accuracy"]["mean"] != rows[1]["accuracy"]["mean"]
    assert rows[1]["gain"]["mean"] == 0.0


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (lambda said: said.arrivals.append(9), "make no sense"),
        (lambda said: said.ClearField("scores"), "but was asked about"),
        (lambda said: said.arrivals.__setitem__(0, 99), "who is not there"),
        (
            lambda said: setattr(said, "scores", np.full(2, np.nan, "<f4").tobytes()),
            "make no sense",
        ),
    ],
)
async def test_a_report_that_makes_no_sense_ends_the_run(
    graph_crowd: Crowd, graph: LabelledGraph, lie: Callable[[Classified], None], told: str
) -> None:
    with pytest.raises(RunFailed, match=told):
        await play(graph_crowd, graph, 1, lie)


async def played(crowd: Crowd, graph: LabelledGraph, label: str, folder: Path) -> Run[GraphReplay]:
    bundle = node_bundle()
    replay = GraphReplay(graph, draw_holdings(graph, HOW, 0), bundle)
    run = Run(label, RESOLVED, 0, Trained(folder, bundle), replay)
    async with Coordinator() as coordinator:
        crowd(coordinator.address, 1, bundle)
        run.accounts = await replay.play(await coordinator.gathered(1, 10))
    return run


async def test_results_can_be_read_by_programs_and_by_people(
    graph_crowd: Crowd, graph: LabelledGraph, tmp_path: Path
) -> None:
    scenario = GraphScenario(prefix=tmp_path / "rare", out=tmp_path / "run", graph=HOW)
    results = GraphResults(scenario, graph)

    for label in ("tiny", "<other>"):
        results.add(await played(graph_crowd, graph, label, tmp_path), {1: 2})

    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    spent = {"payload_up": 0, "payload_down": 0, "bundles_down": 1000}
    assert metrics["bytes"]["tiny"] == spent
    assert set(metrics["measured"]["tiny"]) == {"p50", "p95"}
    frame = pl.read_parquet(tmp_path / "run" / "classified.parquet")
    last = frame.filter((pl.col("step") == 3) & (pl.col("entry") == "tiny"))
    assert len(last) == sum(row["nodes"] for row in metrics["by_shift"] if row["entry"] == "tiny")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "&lt;other&gt;" in page
    assert "<other>" not in page
    assert "turned round" in page


def cut(run: Run[GraphReplay], said: int) -> Run[GraphReplay]:
    """``run``, ended after so many answers."""
    run.accounts = ()
    run.replay.said = dict(sorted(run.replay.said.items())[:said])
    return run


async def test_a_run_that_was_cut_short_leaves_its_whole_steps(
    graph_crowd: Crowd, graph: LabelledGraph, tmp_path: Path
) -> None:
    scenario = GraphScenario(prefix=tmp_path / "rare", out=tmp_path / "run", graph=HOW)
    results = GraphResults(scenario, graph)

    for label, said in (("one", 2 * 12 + 5), ("other", 12), ("whole", 3 * 12)):
        results.add(cut(await played(graph_crowd, graph, label, tmp_path), said), {})

    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    steps = {(row["entry"], row["step"]) for row in metrics["by_step"]}
    frame = pl.read_parquet(tmp_path / "run" / "classified.parquet")
    assert steps == {("one", 1), ("one", 2), ("other", 1), *(("whole", n) for n in (1, 2, 3))}
    assert set(frame.select("entry", "step").unique().iter_rows()) == steps
    assert {row["entry"] for row in metrics["by_shift"]} == {"whole"}
    assert metrics["bytes"] == {}
    assert "one, other, whole" in (tmp_path / "run" / "report.html").read_text()


async def test_a_run_without_a_whole_step_leaves_no_trace(
    graph_crowd: Crowd, graph: LabelledGraph, tmp_path: Path
) -> None:
    scenario = GraphScenario(prefix=tmp_path / "rare", out=tmp_path / "run")
    run = cut(await played(graph_crowd, graph, "tiny", tmp_path), 11)

    GraphResults(scenario, graph).add(run, {})

    assert not (tmp_path / "run").exists()


def test_settings_reach_whom_they_are_for() -> None:
    scenario = graph_scenario(
        {"methods": ("ggcn", "x: ggcn[ggcn.width=8]"), "prefix": "a/b"},
        ["graph.hops=3", "train.epochs=2", "ggcn.layers=1", "device.graph_nodes=9"],
    )

    assert scenario.graph.hops == 3
    assert scenario.device == {"graph_nodes": 9}
    assert scenario.cloud_settings(read_entry(scenario.methods[1])) == [
        "train.epochs=2",
        "ggcn.layers=1",
        "ggcn.width=8",
    ]
    assert scenario.folder.name.endswith(".b")


@pytest.mark.parametrize(
    ("pairs", "error", "told"),
    [
        (["graph.hop=3"], UnknownName, r"did you mean 'graph\.hops'"),
        (["replay.moments=3"], UnknownName, "replay"),
        (["graph.strengths=[2]"], BadSetting, r"graph\.strengths"),
    ],
)
def test_a_wrong_setting_is_told(pairs: list[str], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        graph_scenario({"prefix": "a/b"}, pairs)


def test_two_entries_on_a_graph_cannot_have_the_same_name() -> None:
    with pytest.raises(BadSetting, match="same name"):
        graph_scenario({"methods": ["a: ggcn", "a: ggcn[ggcn.width=8]"], "prefix": "a/b"}, [])


def test_many_entries_on_a_graph_have_a_short_folder() -> None:
    methods = [f"ggcn[ggcn.width={width}]" for width in range(1, 30)]

    assert graph_scenario({"methods": methods, "prefix": "a/b"}, []).folder.name == "29-entries.b"


def test_an_entry_may_not_change_what_all_share() -> None:
    scenario = GraphScenario(prefix=Path("a/b"))

    with pytest.raises(UnknownName, match="graph"):
        scenario.cloud_settings(read_entry("ggcn[graph.hops=1]"))
