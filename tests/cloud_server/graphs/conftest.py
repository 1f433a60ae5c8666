"""A graph whose classes like their own, small enough to train on at once."""

from pathlib import Path

import numpy as np
import pytest

from shared_models.contract.nodes import NodeGraph
from shared_models.logs.graphs.labelled import LabelledGraph
from shared_models.logs.graphs.write import write_graph

NODES, FEATURES, CLASSES = 120, 6, 3


def clustered(nodes: int = NODES, seed: int = 0) -> LabelledGraph:
    """The last two nodes have no label."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(CLASSES, size=nodes)
    pairs = rng.integers(0, nodes, (2, 8 * nodes))
    pairs = pairs[:, classes[pairs[0]] == classes[pairs[1]]]
    features = rng.random((nodes, FEATURES), np.float32)
    features[np.arange(nodes), classes] += 0.6
    labels = np.eye(CLASSES, dtype=np.float32)[classes]
    labels[-2:] = 0
    labelled = labels.any(1)
    parts = np.arange(nodes).astype(np.int8) % 3
    ids = [f"n{node}" for node in range(nodes)]
    graph = NodeGraph.whole(features, pairs)
    return LabelledGraph("clustered", ids, graph, labels, labelled, parts, multi_label=False)


@pytest.fixture
def graph() -> LabelledGraph:
    return clustered()


@pytest.fixture
def prefix(graph: LabelledGraph, tmp_path: Path) -> Path:
    write_graph(graph, tmp_path / "clustered")
    return tmp_path / "clustered"
