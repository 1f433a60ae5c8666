"""From a trained classifier of nodes to a bundle, proved in onnxruntime before it is written."""

# Shapes: N nodes, F features, E edges, C classes.

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from shared_models.contract.arrays import arrays_to_bytes
from shared_models.contract.bundle import TEST_VECTOR, Bundle, same
from shared_models.contract.errors import BundleRefused
from shared_models.contract.manifest import Task
from shared_models.contract.nodes import NODE_INPUTS, NodeGraph, NodeSpec
from shared_models.contract.tensors import Float32Array, TensorSpec
from shared_models.graphs import to_onnx
from shared_models.node_method import NodeMethod

CLASSIFIER: Final = "classifier"
CLASSIFIER_FILE: Final = "classifier.onnx"
_SCORES: Final = "scores"
_SIZES: Final = {"features": {0: "nodes"}, "edges": {1: "edges"}, "degrees": {0: "nodes"}}
_VECTOR: Final = (3, 4)
"""Nodes and pairs of the test vector, which is part of every download."""
_PROBES: Final = ((5, 8), (1, 0), (7, 0), (3, 2), (60, 200))
"""Nodes and pairs of graphs that are compared: one alone and some without an edge among them."""


def compile_node_bundle(method: NodeMethod, model: nn.Module, graph_hash: str) -> Bundle:
    """Export ``model`` and freeze it with its manifest and test vector.

    Args:
        method: what trained it.
        model: the trained module, on any torch device.
        graph_hash: names the graph that it was trained on.

    Raises:
        BundleRefused: the exported graph does not reproduce torch.
    """
    classifier, spec = method.export(model.cpu().eval()).eval(), method.config.nodes
    vector = _drawn(spec, *_VECTOR)
    scores = _torch_scores(classifier, vector)
    files = {
        CLASSIFIER_FILE: proved_classifier(classifier, spec),
        TEST_VECTOR: arrays_to_bytes({**vector, _SCORES: scores}),
    }
    manifest = {
        "task": Task.NODE_CLASSIFICATION,
        "method": method.name,
        "config": method.config.model_dump(mode="json"),
        "log_hash": graph_hash,
        "nodes": spec,
        "graphs": {CLASSIFIER: _ports(spec)},
    }
    return Bundle.make(manifest, files)


def proved_classifier(classifier: nn.Module, spec: NodeSpec) -> bytes:
    """``(features, edges, degrees) -> scores`` as ONNX bytes, nodes and edges dynamic.

    Raises:
        BundleRefused: it does not reproduce torch.
    """
    example = {name: torch.from_numpy(array) for name, array in _drawn(spec, *_PROBES[0]).items()}
    graph = to_onnx(classifier, example, {}, [_SCORES], _SIZES)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    inputs = [port.name for port in session.get_inputs()]
    if sorted(inputs) != sorted(NODE_INPUTS):
        raise BundleRefused(f"the graph reads {sorted(inputs)}, not {sorted(NODE_INPUTS)}")
    for nodes, pairs in _PROBES:
        feeds = _drawn(spec, nodes, pairs)
        if not same(session.run([_SCORES], feeds)[0], _torch_scores(classifier, feeds)):
            raise BundleRefused(f"the graph differs from torch for {nodes} nodes, {pairs} pairs")
    return graph


def _torch_scores(classifier: nn.Module, feeds: Mapping[str, Any]) -> Float32Array:
    with torch.inference_mode():
        scores_NC: Tensor = classifier(*(torch.from_numpy(feed) for feed in feeds.values()))
    array: Float32Array = scores_NC.numpy()
    return array


def _drawn(spec: NodeSpec, nodes: int, pairs: int) -> dict[str, Any]:
    """A part of a graph, drawn: some nodes have neighbours beyond it."""
    rng = np.random.default_rng([nodes, pairs])
    features_NF = rng.random((nodes, spec.features), np.float32)
    graph = NodeGraph.whole(features_NF, rng.integers(0, nodes, (2, pairs)))
    degrees_N = graph.degrees_N + rng.integers(0, 3, nodes).astype(np.float32)
    return dict(zip(NODE_INPUTS, (features_NF, graph.edges_2E, degrees_N), strict=True))


def _ports(spec: NodeSpec) -> dict[str, Any]:
    return {
        "file": CLASSIFIER_FILE,
        "inputs": [
            TensorSpec(name="features", shape=("nodes", spec.features)),
            TensorSpec(name="edges", dtype="int64", shape=(2, "edges")),
            TensorSpec(name="degrees", shape=("nodes",)),
        ],
        "outputs": [TensorSpec(name=_SCORES, shape=("nodes", spec.classes))],
    }
