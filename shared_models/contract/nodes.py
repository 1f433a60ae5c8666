"""Graphs whose nodes are classified: what a graph is for a model, on both sides.

An edge is undirected and stands in both directions; no node is its own neighbour, since models add
that by themselves. Degrees are those of the whole graph: a part of a graph keeps them, so that the
outer edges that were cut off count as they did.
"""

# Shapes: N nodes, F features, E directed edges.

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from shared_models.contract.tensors import Float32Array, Int64Array

NODE_INPUTS: Final = ("features", "edges", "degrees")
"""Inputs of a node classifier's graph: float32 (N, F), int64 (2, E), float32 (N,)."""


class NodeSpec(BaseModel):
    """What a model reads of a node and says of it; goes into the manifest as data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: PositiveInt = Field(description="Features of a node, F.")
    classes: PositiveInt = Field(description="Classes, C.")
    multi_label: bool = Field(False, description="Whether a node may have several, or none.")


@dataclass(frozen=True, slots=True)
class NodeGraph:
    """A graph, or a part of one.

    Attributes:
        features_NF: float32.
        edges_2E: int64, from and to, each edge in both directions, in order of the first.
        degrees_N: float32, neighbours in the whole graph, at least as many as there are here.
    """

    features_NF: Float32Array
    edges_2E: Int64Array
    degrees_N: Float32Array

    @classmethod
    def whole(cls, features_NF: Float32Array, pairs_2P: Int64Array) -> Self:
        """From undirected pairs in any order; a pair counts once, a node with itself never."""
        edges_2E = both_ways(pairs_2P, len(features_NF))
        degrees_N = np.bincount(edges_2E[0], minlength=len(features_NF)).astype(np.float32)
        return cls(features_NF, edges_2E, degrees_N)

    def __len__(self) -> int:
        return len(self.features_NF)

    def part(self, nodes_M: Int64Array) -> "NodeGraph":
        """What is left with these nodes alone, in their order; degrees stay."""
        place_N = np.full(len(self), -1, np.int64)
        place_N[nodes_M] = np.arange(len(nodes_M))
        edges_2E = place_N[self.edges_2E]
        edges_2E = _in_order(edges_2E[:, (edges_2E >= 0).all(0)], len(nodes_M))
        return NodeGraph(self.features_NF[nodes_M], edges_2E, self.degrees_N[nodes_M])

    def around(self, centres: Int64Array, hops: int) -> Int64Array:
        """Nodes at most ``hops`` edges away from ``centres``: these first, the others by number."""
        seen_N, border = np.zeros(len(self), bool), centres
        seen_N[centres] = True
        for _ in range(hops):
            border_N = np.zeros(len(self), bool)
            border_N[border] = True
            reached = self.edges_2E[1][border_N[self.edges_2E[0]]]
            border = np.unique(reached[~seen_N[reached]])
            seen_N[border] = True
        seen_N[centres] = False
        nodes: Int64Array = np.concatenate([centres, np.flatnonzero(seen_N)])
        return nodes

    def ego(self, centre: int, hops: int) -> "NodeGraph":
        """The part around one node, which comes first in it."""
        return self.part(self.around(np.array([centre], np.int64), hops))


def both_ways(pairs_2P: Int64Array, nodes: int) -> Int64Array:
    """Undirected pairs as int64 (2, E): each once in either direction, none with itself."""
    pairs_2P = pairs_2P[:, pairs_2P[0] != pairs_2P[1]]
    ends = np.concatenate([pairs_2P, pairs_2P[::-1]], axis=1)
    return np.stack(np.divmod(np.unique(ends[0] * nodes + ends[1]), max(nodes, 1)))


def _in_order(edges_2E: Int64Array, nodes: int) -> Int64Array:
    order = np.argsort(edges_2E[0] * nodes + edges_2E[1], kind="stable")
    return edges_2E[:, order]
