"""A graph whose nodes have features, labels and parts: what node classifiers learn from."""

# Shapes: N nodes, C classes.

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from shared_models.contract.nodes import NodeGraph, NodeSpec
from shared_models.contract.tensors import Float32Array, Int64Array

Part = Literal["train", "validation", "test"]
PARTS: Final[Sequence[Part]] = ("train", "validation", "test")


@dataclass(frozen=True)
class LabelledGraph:
    """Nodes without a label are part of the graph, and count nowhere else.

    Attributes:
        name: for people.
        ids: of the nodes, as the file has them.
        graph: features, edges and degrees.
        labels_NC: float32, 1 for a node's classes; rows of zeros where there is no label.
        labelled_N: which nodes have one.
        part_N: int8, place in `PARTS`.
        multi_label: whether a node may have several classes, or none.
    """

    name: str
    ids: Sequence[str]
    graph: NodeGraph
    labels_NC: Float32Array
    labelled_N: NDArray[np.bool_]
    part_N: NDArray[np.int8]
    multi_label: bool

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def spec(self) -> NodeSpec:
        """What a model of it reads and says."""
        return NodeSpec(
            features=self.graph.features_NF.shape[1],
            classes=self.labels_NC.shape[1],
            multi_label=self.multi_label,
        )

    def nodes(self, part: Part) -> Int64Array:
        """The labelled nodes of a part."""
        return np.flatnonzero(self.labelled_N & (self.part_N == PARTS.index(part)))

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the content; ids and name are no part of it."""
        digest = hashlib.sha256(self.spec.model_dump_json().encode())
        graph = self.graph
        arrays = (graph.features_NF, graph.edges_2E, self.labels_NC, self.labelled_N, self.part_N)
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()
