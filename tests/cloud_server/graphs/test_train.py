"""Training on graphs: parts of them, and what validation chooses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cloud_server.graphs.evaluate import evaluate_nodes, node_predictions, node_scores
from cloud_server.graphs.parts import GraphData, grown_order
from cloud_server.graphs.train import NodeEpoch, train_nodes
from cloud_server.recipe import NodeTrainSettings
from shared_models.catalog import load_method, resolve_nodes
from shared_models.contract.errors import BadLog, RunFailed
from shared_models.contract.nodes import NodeGraph
from shared_models.logs.graphs.labelled import LabelledGraph
from shared_models.node_method import NodeMethod
from tests.cloud_server.graphs.conftest import NODES

QUICK = NodeTrainSettings(epochs=40, patience=15, learning_rate=0.05)


class Watcher:
    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int, int]] = []

    def on_step(self, stage: str, epoch: int, step: int, steps: int) -> None:
        self.steps.append((stage, epoch, step, steps))

    def on_epoch(self, stage: str, record: NodeEpoch) -> None:
        assert "micro-F1" in record.told


def make_method(graph: LabelledGraph, **settings: Any) -> NodeMethod:
    config = resolve_nodes(
        "ggcn", graph.spec, {"ggcn": {"width": 16, "dropout": 0.1, "scale": "none", **settings}}
    )
    return load_method("ggcn", config)


def test_an_epoch_has_every_training_node_once(graph: LabelledGraph) -> None:
    data = GraphData(graph, torch.device("cpu"))

    parts = list(data.epoch(np.random.default_rng(0), 50))

    assert len(parts) == data.steps(50) == 3
    assert [len(part.batch.features_NF) for part in parts] == [40, 40, 40]
    seen = np.concatenate([part.targets_T for part in parts])
    assert sorted(seen.tolist()) == graph.nodes("train").tolist()


def test_a_part_holds_the_features_and_labels_of_its_own_nodes(graph: LabelledGraph) -> None:
    data = GraphData(graph, torch.device("cpu"))

    for part in data.epoch(np.random.default_rng(0), 50):
        targets = part.batch.targets_M.numpy()
        features, labels = graph.graph.features_NF, graph.labels_NC
        np.testing.assert_array_equal(part.batch.features_NF[targets], features[part.targets_T])
        np.testing.assert_array_equal(part.batch.labels_NC[targets], labels[part.targets_T])


def test_a_graph_that_fits_is_one_part_with_true_degrees(graph: LabelledGraph) -> None:
    data = GraphData(graph, torch.device("cpu"))

    (part,) = data.epoch(np.random.default_rng(0), NODES)

    assert part.batch.spread is data.whole("test").spread


def test_neighbourhoods_stay_together() -> None:
    ring = NodeGraph.whole(
        np.zeros((90, 1), np.float32), np.stack([np.arange(90), (np.arange(90) + 1) % 90])
    )

    order = grown_order(ring, 3, np.random.default_rng(0))

    assert sorted(order.tolist()) == list(range(90))
    kept = sum(
        ring.part(np.sort(order[start : start + 30])).edges_2E.shape[1] for start in (0, 30, 60)
    )
    # Cut at random, a third of the 180 ends would stay.
    assert kept > 150


def test_training_finds_the_classes_and_the_same_seed_finds_the_same(graph: LabelledGraph) -> None:
    method = make_method(graph)

    (first, _), (again, _), (other, _) = (
        train_nodes(method, graph, QUICK, seed, Watcher()) for seed in (0, 0, 1)
    )

    scores = [node_scores(trained, graph) for trained in (first, again, other)]
    assert evaluate_nodes(scores[0], graph)["test"]["accuracy"] > 0.8
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_training_by_parts_finds_the_classes_as_well(graph: LabelledGraph) -> None:
    watcher = Watcher()

    trained, _ = train_nodes(
        make_method(graph), graph, QUICK.model_copy(update={"nodes": 50}), 0, watcher
    )

    assert {step[2:] for step in watcher.steps} == {(1, 3), (2, 3), (3, 3)}
    assert evaluate_nodes(node_scores(trained, graph), graph)["test"]["accuracy"] > 0.8


def test_the_depth_that_validates_best_is_kept(graph: LabelledGraph) -> None:
    _, report = train_nodes(make_method(graph, depths=(0, 2)), graph, QUICK, 0, Watcher())

    best = [
        max(epoch.rank for epoch in choice["stages"][-1])
        for choice in report["choices"]  # type: ignore[union-attr]
    ]
    kept = train_nodes(make_method(graph, depths=(0, 2)), graph, QUICK, 0, Watcher())[0]
    assert kept.method.config.layers == (0, 2)[int(np.argmax([rank for rank, _ in best]))]


def test_the_devices_network_is_trained_after_the_cloud_s(graph: LabelledGraph) -> None:
    watcher = Watcher()

    trained, _ = train_nodes(make_method(graph, device_width=4), graph, QUICK, 0, watcher)

    assert [*dict.fromkeys(step[0] for step in watcher.steps)] == ["cloud", "device"]
    assert evaluate_nodes(node_scores(trained, graph), graph)["test"]["accuracy"] > 0.8


def test_what_the_test_part_says_changes_nothing(graph: LabelledGraph) -> None:
    labels = graph.labels_NC.copy()
    labels[graph.nodes("test")] = np.roll(labels[graph.nodes("test")], 1, 1)
    changed = replace(graph, labels_NC=labels)

    one, other = (
        train_nodes(make_method(each), each, QUICK, 0, Watcher())[0] for each in (graph, changed)
    )

    np.testing.assert_array_equal(node_scores(one, graph), node_scores(other, graph))


def test_a_node_without_a_label_counts_nowhere(graph: LabelledGraph) -> None:
    scores = np.zeros((NODES, 3), np.float32)

    found = evaluate_nodes(scores, graph)
    frame = node_predictions(scores, graph)

    assert sum(found[part]["nodes"] for part in ("train", "validation", "test")) == NODES - 2
    assert frame["label"].null_count() == 2
    assert frame["node"].to_list() == list(graph.ids)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_without_labels_to_learn_from_or_to_choose_by_there_is_no_training(
    graph: LabelledGraph, part: str
) -> None:
    labelled = graph.labelled_N.copy()
    labelled[graph.nodes(part)] = False  # type: ignore[arg-type]

    with pytest.raises(BadLog, match=f"no labelled node is in the {part} part"):
        train_nodes(make_method(graph), replace(graph, labelled_N=labelled), QUICK, 0, Watcher())


def test_a_training_that_diverges_says_what_to_do(graph: LabelledGraph) -> None:
    wild = NodeTrainSettings(learning_rate=1e30)

    with pytest.raises(RunFailed, match=r"lower train\.learning_rate"):
        train_nodes(make_method(graph), graph, wild, 0, Watcher())
