"""A labelled graph as tensors, whole or cut into parts that are small enough to train on.

A part is made of neighbourhoods that grew together from drawn centres, and is a graph of its own:
its degrees are those that it has (Cluster-GCN, arXiv:1905.07953). What is served and validated is
always computed on the whole graph.
"""

# Shapes: N nodes, M nodes of a part, T nodes that count, E edges, C classes.

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from shared_models.contract.nodes import NodeGraph
from shared_models.contract.tensors import Int64Array
from shared_models.layers.graph import spread_sparse
from shared_models.logs.graphs.labelled import LabelledGraph, Part
from shared_models.node_method import NodeBatch

_CENTRES: Final = 8
"""Neighbourhoods in a part."""


@dataclass(frozen=True, slots=True)
class TrainingPart:
    """What a step learns from.

    Attributes:
        batch: the part.
        targets_T: int64, the nodes that count, by their number in the whole graph.
    """

    batch: NodeBatch
    targets_T: Int64Array


class GraphData:
    """A graph on a torch device.

    Args:
        graph: to train on and to validate by.
        device: where tensors go.
    """

    def __init__(self, graph: LabelledGraph, device: torch.device) -> None:
        self._graph, self._device = graph, device
        self._whole = self._batch(graph.graph, np.arange(len(graph)), graph.nodes("train"))

    def __len__(self) -> int:
        return len(self._graph)

    def whole(self, part: Part) -> NodeBatch:
        """All nodes, of which those of ``part`` count."""
        targets = torch.from_numpy(self._graph.nodes(part)).to(self._device)
        whole = self._whole
        return NodeBatch(whole.features_NF, whole.spread, whole.labels_NC, targets)

    def steps(self, most: int) -> int:
        """Batches of an epoch."""
        return -(-len(self) // most)

    def epoch(self, rng: np.random.Generator, most: int) -> Iterator[TrainingPart]:
        """The training part once, in equal parts of at most ``most`` nodes; whole if it fits."""
        training = self._graph.nodes("train")
        if len(self) <= most:
            yield TrainingPart(self._whole, training)
            return
        counts_N = np.zeros(len(self), bool)
        counts_N[training] = True
        order_N = grown_order(self._graph.graph, self.steps(most) * _CENTRES, rng)
        for part_M in np.array_split(order_N, self.steps(most)):
            nodes_M = np.sort(part_M)
            places_T = np.flatnonzero(counts_N[nodes_M])
            if len(places_T):
                part = self._graph.graph.part(nodes_M)
                alone = NodeGraph.whole(part.features_NF, part.edges_2E)
                yield TrainingPart(self._batch(alone, nodes_M, places_T), nodes_M[places_T])

    def _batch(self, graph: NodeGraph, nodes_M: Int64Array, targets_T: Int64Array) -> NodeBatch:
        features_NF, edges_2E, degrees_N, labels_NC, targets = (
            torch.from_numpy(array).to(self._device)
            for array in (
                graph.features_NF,
                graph.edges_2E,
                graph.degrees_N,
                self._graph.labels_NC[nodes_M],
                targets_T,
            )
        )
        return NodeBatch(features_NF, spread_sparse(edges_2E, degrees_N), labels_NC, targets)


def grown_order(graph: NodeGraph, centres: int, rng: np.random.Generator) -> Int64Array:
    """All nodes, those of one neighbourhood beside each other, neighbourhoods in drawn order.

    Neighbourhoods grow from drawn centres an edge at a time; where two meet, chance decides. What
    none reaches is spread over them.
    """
    owner_N = np.full(len(graph), -1, np.int64)
    chosen = rng.choice(len(graph), min(centres, len(graph)), replace=False)
    owner_N[chosen] = np.arange(len(chosen))
    source_E, target_E = graph.edges_2E[:, rng.permutation(graph.edges_2E.shape[1])]
    while len(source_E):
        open_E = owner_N[target_E] < 0
        source_E, target_E = source_E[open_E], target_E[open_E]
        reached_E = owner_N[source_E] >= 0
        if not reached_E.any():
            break
        owner_N[target_E[reached_E]] = owner_N[source_E[reached_E]]
    alone = np.flatnonzero(owner_N < 0)
    owner_N[alone] = rng.integers(len(chosen), size=len(alone))
    return np.argsort(owner_N, kind="stable")
