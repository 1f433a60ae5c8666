"""What a device knows of a graph: nodes in the order in which it met them, and edges between them.

It stands beside the window of those that rank. It is bounded: past that the oldest nodes are
forgotten, with their edges, while the degrees of the others still count them.
"""

# Shapes: N nodes that are known, K new ones, F features, P new edges.

import numpy as np

from shared_models.contract.errors import BadAsk
from shared_models.contract.nodes import NodeGraph
from shared_models.contract.tensors import Float32Array, Int64Array


class GraphMemory:
    """The graph of one device.

    Args:
        features: of a node, F.
        most: newest nodes that are kept.
    """

    __slots__ = ("_degrees_N", "_features_NF", "_forgotten", "_most", "_pairs_2P")

    def __init__(self, features: int, most: int) -> None:
        self._most, self._forgotten = most, 0
        self._features_NF = np.zeros((0, features), np.float32)
        self._degrees_N = np.zeros(0, np.float32)
        self._pairs_2P = np.zeros((2, 0), np.int64)

    @property
    def met(self) -> int:
        """Nodes so far, forgotten ones included; they are numbered from 0."""
        return self._forgotten + len(self._features_NF)

    @property
    def state_bytes(self) -> int:
        """Bytes that it keeps."""
        kept = (self._features_NF, self._degrees_N, self._pairs_2P)
        return sum(array.nbytes for array in kept)

    def learn(
        self, features_KF: Float32Array, pairs_2P: Int64Array, degrees_N: Float32Array
    ) -> None:
        """Take in new nodes and edges.

        Args:
            features_KF: of the new nodes.
            pairs_2P: ends of new edges, by number of node; edges of forgotten nodes are dropped.
            degrees_N: neighbours of every node so far, forgotten ones included.

        Raises:
            BadAsk: sizes do not fit each other, or an end is no node.
        """
        met = self.met + len(features_KF)
        if features_KF.shape[1:] != self._features_NF.shape[1:] or len(degrees_N) != met:
            raise BadAsk(
                f"a device with {self.met} nodes of {self._features_NF.shape[1]} features was told "
                f"of {features_KF.shape} features and {len(degrees_N)} degrees"
            )
        if pairs_2P.size and not 0 <= pairs_2P.min() <= pairs_2P.max() < met:
            raise BadAsk(f"an edge ends at a node that is none of {met}")
        self._features_NF = np.concatenate([self._features_NF, features_KF])
        self._pairs_2P = np.concatenate([self._pairs_2P, pairs_2P - self._forgotten], axis=1)
        self._degrees_N = degrees_N[self._forgotten :]
        self._forget(max(len(self._features_NF) - self._most, 0))

    def graph(self) -> NodeGraph:
        """All that is known, nodes in order of their numbers."""
        known = NodeGraph.whole(self._features_NF, self._pairs_2P)
        return NodeGraph(known.features_NF, known.edges_2E, self._degrees_N)

    def places(self, nodes: Int64Array) -> Int64Array:
        """Where nodes stand in `graph`.

        Raises:
            BadAsk: one was never met, or is forgotten.
        """
        places: Int64Array = nodes - self._forgotten
        if places.size and not 0 <= places.min() <= places.max() < len(self._features_NF):
            raise BadAsk(
                f"a device is asked about a node that is none of {self.met}, or that it has "
                f"forgotten: it keeps {self._most}"
            )
        return places

    def _forget(self, count: int) -> None:
        self._forgotten += count
        self._features_NF = self._features_NF[count:]
        self._degrees_N = self._degrees_N[count:]
        pairs_2P = self._pairs_2P - count
        self._pairs_2P = pairs_2P[:, (pairs_2P >= 0).all(0)]
