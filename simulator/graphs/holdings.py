"""What devices hold of a graph: the surroundings of test nodes, drawn with a shift.

Nothing of the training changes: the cloud's graph and its labels are as they are, and who holds
what depends on the data seed alone.
"""

# Shapes: N nodes of the graph, M nodes of a device, T test nodes.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared_models.contract.errors import TooSmall
from shared_models.contract.nodes import NodeGraph
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.logs.graphs.labelled import LabelledGraph
from simulator.graphs.scenario import Holdings

_FAR = 1_000


@dataclass(frozen=True, slots=True)
class Holding:
    """The graph of one device.

    Attributes:
        user: its number.
        strength: of the shift that its centre was drawn with.
        nodes_M: int64, numbers in the whole graph in the order of their arrival.
        ends: nodes that are there after each step.
        asked_M: whether a node is to be classified: it is a labelled test node.
    """

    user: int
    strength: float
    nodes_M: Int64Array
    ends: tuple[int, ...]
    asked_M: NDArray[np.bool_]

    def asked(self, step: int) -> Int64Array:
        """Places of the nodes to classify at ``step``: all that are there by then."""
        return np.flatnonzero(self.asked_M[: self.ends[step]])


def draw_holdings(graph: LabelledGraph, how: Holdings, seed: int) -> list[Holding]:
    """A number of devices for each strength.

    Raises:
        TooSmall: no labelled node is in the test part.
    """
    tests_T = graph.nodes("test")
    if not len(tests_T):
        raise TooSmall(f"{graph.name}: no labelled node is in the test part")
    rarity_T = _rarity(graph, tests_T, how)
    asked_N = np.zeros(len(graph), bool)
    asked_N[tests_T] = True
    holdings: list[Holding] = []
    for place, strength in enumerate(how.strengths):
        rng = np.random.default_rng([seed, place])
        likely_T = np.exp(strength * (rarity_T - rarity_T.max()))
        centres = rng.choice(tests_T, how.devices, p=likely_T / likely_T.sum())
        for centre in centres.tolist():
            nodes_M = _nearest(graph.graph, centre, how, rng)
            ends = tuple(
                np.ceil(len(nodes_M) * np.arange(1, how.steps + 1) / how.steps).astype(int)
            )
            asked_M = asked_N[nodes_M]
            holdings.append(Holding(len(holdings), strength, nodes_M, ends, asked_M))
    return holdings


def _rarity(graph: LabelledGraph, tests_T: Int64Array, how: Holdings) -> Float32Array:
    """Logarithm of how much likelier a centre is at full strength."""
    if how.shift == "degree":
        counts_T = np.log(graph.graph.degrees_N[tests_T] + 1)
    else:
        labels_TC = graph.labels_NC[tests_T]
        counts_C = np.log(np.maximum(labels_TC.sum(0), 1))
        # Of several classes the mean; with none of them a node is as likely as ever.
        counts_T = labels_TC @ counts_C / np.maximum(labels_TC.sum(1), 1)
    rarity_T: Float32Array = -2 * counts_T
    return rarity_T


def _nearest(graph: NodeGraph, centre: int, how: Holdings, rng: np.random.Generator) -> Int64Array:
    """The centre, then what is one edge away in drawn order, then two, as far as allowed."""
    order = np.array([centre], np.int64)
    for hops in range(1, (how.hops if how.kind == "ego" else _FAR) + 1):
        reached = graph.around(np.array([centre]), hops)
        ring = np.setdiff1d(reached, order)
        if not len(ring) or len(order) >= how.nodes:
            break
        order = np.concatenate([order, rng.permutation(ring)])
    return order[: how.nodes]
