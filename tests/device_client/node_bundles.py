"""A bundle that classifies nodes, made without torch, and what it must say."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from shared_models.contract.arrays import arrays_to_bytes
from shared_models.contract.bundle import TEST_VECTOR, Bundle
from shared_models.contract.nodes import NODE_INPUTS, NodeGraph

FEATURES, CLASSES = 3, 2
WEIGHTS = np.array([[1, -1], [0.5, 0], [-2, 1]], np.float32)


def expected_scores(graph: NodeGraph, scale: float = 1.0) -> np.ndarray:
    """``scale (X + sum of neighbours' X) W / (degree + 1)``."""
    heard = graph.features_NF.copy()
    np.add.at(heard, graph.edges_2E[1], graph.features_NF[graph.edges_2E[0]])
    scores = heard @ WEIGHTS * np.float32(scale)
    return (scores / (graph.degrees_N + 1)[:, None]).astype(np.float32)


def drawn_graph(nodes: int = 6, pairs: int = 7, seed: int = 0) -> NodeGraph:
    rng = np.random.default_rng(seed)
    features = rng.random((nodes, FEATURES), np.float32)
    graph = NodeGraph.whole(features, rng.integers(0, nodes, (2, pairs)))
    return NodeGraph(
        features, graph.edges_2E, graph.degrees_N + rng.integers(0, 2, nodes).astype("f4")
    )


def classifier_graph(scale: float) -> bytes:
    constants = {
        "W": WEIGHTS * np.float32(scale),
        "first": np.array(0),
        "second": np.array(1),
        "last": np.array([-1]),
        "one": np.array(1, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["edges", "first"], ["from"], axis=0),
        helper.make_node("Gather", ["edges", "second"], ["to"], axis=0),
        helper.make_node("Unsqueeze", ["to", "last"], ["places"]),
        helper.make_node("Gather", ["features", "from"], ["said"], axis=0),
        helper.make_node("ScatterND", ["features", "places", "said"], ["heard"], reduction="add"),
        helper.make_node("MatMul", ["heard", "W"], ["turned"]),
        helper.make_node("Add", ["degrees", "one"], ["count"]),
        helper.make_node("Unsqueeze", ["count", "last"], ["column"]),
        helper.make_node("Div", ["turned", "column"], ["scores"]),
    ]
    ports = {"features": (1, ["N", FEATURES]), "edges": (7, [2, "E"]), "degrees": (1, ["N"])}
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info(name, *port) for name, port in ports.items()],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def node_bundle(
    method: str = "tiny", scale: float = 1.0, vector_scale: float | None = None
) -> Bundle:
    """The bundle; with ``vector_scale``, its test vector is that of another graph."""
    graph = drawn_graph()
    scores = expected_scores(graph, scale if vector_scale is None else vector_scale)
    feeds = dict(
        zip(NODE_INPUTS, (graph.features_NF, graph.edges_2E, graph.degrees_N), strict=True)
    )
    inputs = [
        {"name": "features", "shape": ["N", FEATURES]},
        {"name": "edges", "dtype": "int64", "shape": [2, "E"]},
        {"name": "degrees", "shape": ["N"]},
    ]
    outputs = [{"name": "scores", "shape": ["N", CLASSES]}]
    manifest = {
        "task": "node-classification",
        "method": method,
        "config": {},
        "log_hash": "abc",
        "nodes": {"features": FEATURES, "classes": CLASSES},
        "graphs": {"classifier": {"file": "classifier.onnx", "inputs": inputs, "outputs": outputs}},
    }
    files = {
        "classifier.onnx": classifier_graph(scale),
        TEST_VECTOR: arrays_to_bytes({**feeds, "scores": scores}),
    }
    return Bundle.make(manifest, files)
