"""What every method promises that classifies nodes."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.catalog import load_method, method_names, resolve_nodes
from shared_models.contract.bundle import Bundle, pack, same, unpack
from shared_models.contract.manifest import Task
from shared_models.contract.nodes import NODE_INPUTS, NodeGraph, NodeSpec
from shared_models.layers.graph import spread_sparse
from shared_models.node_export import CLASSIFIER, compile_node_bundle
from shared_models.node_method import NodeBatch, NodeMethod

SIZE_BUDGET = 500_000
NODES, FEATURES, CLASSES = 60, 8, 3
KINDS = ("one label", "several labels")


@dataclass(frozen=True)
class NodeCase:
    """A method, a model after some steps, and the bundle made of it."""

    method: NodeMethod
    model: nn.Module
    bundle: Bundle


def make_method(name: str, kind: str) -> NodeMethod:
    spec = NodeSpec(features=FEATURES, classes=CLASSES, multi_label=kind == "several labels")
    return load_method(name, resolve_nodes(name, spec, {}))


def clustered_graph(seed: int = 0) -> tuple[NodeGraph, Tensor]:
    """Nodes that are joined to their own class, and features that hint at it."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(CLASSES, size=NODES)
    pairs = rng.integers(0, NODES, (2, 6 * NODES))
    pairs = pairs[:, classes[pairs[0]] == classes[pairs[1]]]
    features = rng.random((NODES, FEATURES), np.float32)
    features[np.arange(NODES), classes] += 1
    labels = functional.one_hot(torch.from_numpy(classes), CLASSES).float()
    return NodeGraph.whole(features, pairs), labels


def batch_of(graph: NodeGraph, labels: Tensor) -> NodeBatch:
    features, edges, degrees = map(
        torch.from_numpy, (graph.features_NF, graph.edges_2E, graph.degrees_N)
    )
    targets = torch.arange(0, len(graph), 2)
    return NodeBatch(features, spread_sparse(edges, degrees), labels, targets)


def train_steps(method: NodeMethod, model: nn.Module, steps: int) -> list[list[float]]:
    batch, losses = batch_of(*clustered_graph()), []
    drawn = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    for stage in method.stages():
        optimiser = torch.optim.Adam(list(stage.trainable(model)), lr=1e-2)
        weights = torch.ones(len(batch.targets_M))
        losses.append([])
        for _ in range(steps):
            if stage.weigh:
                weights = stage.weigh(model.eval(), batch, weights, drawn)
            logits = stage.scores(model.train(), batch)
            loss = stage.loss(model, batch, logits, weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses[-1].append(loss.item())
    model.eval()
    return losses


@cache
def make_case(name: str, kind: str) -> NodeCase:
    method = make_method(name, kind)
    model = method.build(0)
    train_steps(method, model, 20)
    return NodeCase(method, model, compile_node_bundle(method, model, "none"))


@pytest.fixture(
    params=[(n, k) for n in method_names(Task.NODE_CLASSIFICATION) for k in KINDS], ids="-".join
)
def node_case(request: pytest.FixtureRequest) -> NodeCase:
    return make_case(*request.param)


def on_device(case: NodeCase, graph: NodeGraph) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        case.bundle.graph(CLASSIFIER), providers=["CPUExecutionProvider"]
    )
    feeds = (graph.features_NF, graph.edges_2E, graph.degrees_N)
    return session.run(None, dict(zip(NODE_INPUTS, feeds, strict=True)))[0]


def in_cloud(case: NodeCase, graph: NodeGraph) -> np.ndarray:
    with torch.inference_mode():
        return case.method.score(case.model, batch_of(graph, torch.zeros(0))).numpy()


def test_the_folder_names_the_method(node_case: NodeCase) -> None:
    assert isinstance(node_case.method, NodeMethod)
    assert node_case.method.name in method_names()


def test_the_loss_falls(node_case: NodeCase) -> None:
    method = node_case.method

    for losses in train_steps(method, method.build(1), 100):
        assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_the_same_seed_gives_the_same_weights_and_leaves_chance_elsewhere_alone(
    node_case: NodeCase,
) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)

    first, second, other = (node_case.method.build(seed).state_dict() for seed in (3, 3, 4))

    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_every_parameter_learns_within_three_steps(node_case: NodeCase) -> None:
    method = node_case.method
    model = method.build(0)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}

    train_steps(method, model, 3)

    assert [n for n, value in model.named_parameters() if torch.equal(value, before[n])] == []


@pytest.mark.parametrize("hops", [1, 2, 60])
def test_the_device_scores_what_torch_scores(node_case: NodeCase, hops: int) -> None:
    ego = clustered_graph(1)[0].ego(0, hops)

    assert same(on_device(node_case, ego), in_cloud(node_case, ego))


def test_a_node_alone_is_classified(node_case: NodeCase) -> None:
    alone = NodeGraph.whole(np.ones((1, FEATURES), np.float32), np.zeros((2, 0), np.int64))

    assert same(on_device(node_case, alone), in_cloud(node_case, alone))


def test_renumbering_the_nodes_renumbers_what_comes_out(node_case: NodeCase) -> None:
    graph, order = clustered_graph()[0], np.random.default_rng(0).permutation(NODES)

    assert same(on_device(node_case, graph.part(order)), on_device(node_case, graph)[order])


def test_the_manifest_says_what_a_device_does_with_the_bundle(node_case: NodeCase) -> None:
    manifest = node_case.bundle.manifest

    assert manifest.task == Task.NODE_CLASSIFICATION
    assert manifest.nodes == node_case.method.config.nodes
    assert [port.name for port in manifest.graphs[CLASSIFIER].inputs] == list(NODE_INPUTS)


def test_the_bundle_survives_its_bytes_and_is_small(node_case: NodeCase) -> None:
    again = unpack(pack(node_case.bundle), node_case.bundle.id)

    assert again.manifest == node_case.bundle.manifest
    assert again.files == node_case.bundle.files
    assert node_case.bundle.size < SIZE_BUDGET


def test_the_graph_is_plain_and_tells_nothing_of_its_source(node_case: NodeCase) -> None:
    graph = onnx.load_from_string(node_case.bundle.graph(CLASSIFIER))

    assert len(graph.graph.node) > 0
    assert {domain.domain for domain in graph.opset_import} <= {"", "ai.onnx"}
    assert {node.op_type for node in graph.graph.node} & {"If", "Loop", "Scan"} == set()
    assert len(graph.functions) == 0
    assert not any(node.metadata_props or node.doc_string for node in graph.graph.node)
    assert b"shared_models" not in node_case.bundle.graph(CLASSIFIER)


def test_every_size_of_the_inputs_is_dynamic(node_case: NodeCase) -> None:
    ports = {port.name: port for port in node_case.bundle.manifest.graphs[CLASSIFIER].inputs}

    for port in onnx.load_from_string(node_case.bundle.graph(CLASSIFIER)).graph.input:
        sizes = [d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim]
        assert [isinstance(size, str) for size in sizes] == [
            isinstance(size, str) for size in ports[port.name].shape
        ]
