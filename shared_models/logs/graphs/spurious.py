"""Graphs in which something goes together with the classes that has nothing to do with them.

Node v has core features ``c_v ~ N(0, I_6)`` and edges drawn by chance. What its neighbourhood says,
``f_v``, is the sum over features of ``(Â c)_v``, scaled to unit variance, and decides its class:
``P(y_v = 1) = sigmoid(4 f_v)``. One more feature says ``s_v = r f_v + sqrt(1 - r^2) e_v`` with
noise ``e``. Given ``f`` it tells nothing of the class, but it is easier to read; ``r`` may differ
between the cloud's graph and that of a device. Who knows ``f`` is right with the mean of
``max(p, 1 - p)``, about .872, whatever ``r`` is.
"""

# Shapes: N nodes.

from dataclasses import dataclass

import numpy as np

from shared_models.contract.nodes import NodeGraph
from shared_models.contract.tensors import Float32Array
from shared_models.logs.graphs.labelled import LabelledGraph

_CORE = 6
_SHARPNESS = 4.0
_DEGREE = 6


@dataclass(frozen=True, slots=True)
class SpuriousGraph:
    """A drawn graph, and the accuracy that nobody can exceed on average."""

    graph: LabelledGraph
    best: float


def spurious_graph(nodes: int, correlation: float, seed: int) -> SpuriousGraph:
    """Draw a graph; half of its nodes are to train on, a quarter to validate, a quarter to test.

    Args:
        nodes: N.
        correlation: r, from -1 to 1.
        seed: of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    core = rng.standard_normal((nodes, _CORE)).astype(np.float32)
    graph = NodeGraph.whole(core, rng.integers(0, nodes, (2, nodes * _DEGREE // 2)))
    heard = heard_features(graph).sum(1)
    decides = heard / heard.std()
    likely = 1 / (1 + np.exp(-_SHARPNESS * decides))
    classes = (rng.random(nodes) < likely).astype(int)
    noise = rng.standard_normal(nodes)
    spurious = correlation * decides + np.sqrt(1 - correlation**2) * noise
    features = np.column_stack([core, spurious]).astype(np.float32)
    parts = rng.choice(3, nodes, p=(0.5, 0.25, 0.25)).astype(np.int8)
    labelled = LabelledGraph(
        f"spurious {correlation:+.1f}",
        [str(node) for node in range(nodes)],
        NodeGraph(features, graph.edges_2E, graph.degrees_N),
        np.eye(2, dtype=np.float32)[classes],
        np.ones(nodes, bool),
        parts,
        multi_label=False,
    )
    return SpuriousGraph(labelled, float(np.maximum(likely, 1 - likely).mean()))


def heard_features(graph: NodeGraph) -> Float32Array:
    """``Â X``, what every node hears of features."""
    roots = 1 / np.sqrt(graph.degrees_N + 1)
    scaled = graph.features_NF * roots[:, None]
    total = scaled.copy()
    np.add.at(total, graph.edges_2E[1], scaled[graph.edges_2E[0]])
    heard: Float32Array = (total * roots[:, None]).astype(np.float32)
    return heard
