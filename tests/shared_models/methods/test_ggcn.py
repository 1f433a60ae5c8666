"""ggcn: what the original intends, on whole graphs and on those of devices."""

from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from shared_models.catalog import load_method, resolve, resolve_nodes
from shared_models.contract.bundle import Bundle, same
from shared_models.contract.errors import BadSetting, UnknownName
from shared_models.contract.nodes import NodeGraph, NodeSpec
from shared_models.layers.graph import spread_over, spread_sparse
from shared_models.methods.ggcn.method import Ggcn
from shared_models.node_export import CLASSIFIER, compile_node_bundle
from shared_models.node_method import NodeBatch

FEATURES, CLASSES = 6, 3


def make_method(*, several: bool = False, **settings: Any) -> Ggcn:
    spec = NodeSpec(features=FEATURES, classes=CLASSES, multi_label=several)
    config = resolve_nodes("ggcn", spec, {"ggcn": {"width": 8, **settings}})
    return load_method("ggcn", config)


def make_graph(nodes: int = 40, pairs: int = 50, seed: int = 0) -> NodeGraph:
    rng = np.random.default_rng(seed)
    features = rng.random((nodes, FEATURES), np.float32)
    return NodeGraph.whole(features, rng.integers(0, nodes, (2, pairs)))


def make_batch(graph: NodeGraph, targets: list[int] | None = None, seed: int = 0) -> NodeBatch:
    features, edges, degrees = (
        torch.from_numpy(array) for array in (graph.features_NF, graph.edges_2E, graph.degrees_N)
    )
    drawn = torch.Generator().manual_seed(seed)
    labels = functional.one_hot(torch.randint(CLASSES, (len(graph),), generator=drawn))
    chosen = list(range(len(graph))) if targets is None else targets
    about = (spread_over(edges, degrees), labels.float(), torch.tensor(chosen))
    return NodeBatch(features, *about)


def scores(method: Ggcn, model: torch.nn.Module, graph: NodeGraph) -> Tensor:
    with torch.inference_mode():
        return method.score(model, make_batch(graph))


def on_device(bundle: Bundle, graph: NodeGraph) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        bundle.graph(CLASSIFIER), providers=["CPUExecutionProvider"]
    )
    feeds = {"features": graph.features_NF, "edges": graph.edges_2E, "degrees": graph.degrees_N}
    return session.run(None, feeds)[0]


@cache
def made(**settings: Any) -> tuple[Ggcn, torch.nn.Module, Bundle]:
    """A method, an untrained model and its bundle."""
    method = make_method(**settings)
    model = method.build(0).eval()
    return method, model, compile_node_bundle(method, model, "none")


def loss_of(method: Ggcn, model: torch.nn.Module, batch: NodeBatch, weights: Tensor) -> Tensor:
    stage = method.stages()[-1]
    return stage.loss(model, batch, stage.scores(model, batch), weights)


def padded(graph: NodeGraph, more: int) -> NodeGraph:
    """The same graph, with nodes at its end that have no edges."""
    features = np.concatenate([graph.features_NF, np.ones((more, FEATURES), np.float32)])
    degrees = np.concatenate([graph.degrees_N, np.zeros(more, np.float32)])
    return NodeGraph(features, graph.edges_2E, degrees)


@pytest.mark.parametrize("several", [False, True])
def test_nodes_that_pad_a_graph_change_nothing_for_the_others(several: bool) -> None:
    method, graph = make_method(several=several, layers=3), make_graph()
    model = method.build(0).eval()
    real = list(range(len(graph)))

    batch, longer = make_batch(graph), make_batch(padded(graph, 5), real)
    longer.labels_NC[: len(graph)] = batch.labels_NC
    weights = torch.ones(len(graph))

    torch.testing.assert_close(
        method.score(model, longer)[: len(graph)], method.score(model, batch)
    )
    torch.testing.assert_close(
        loss_of(method, model, longer, weights), loss_of(method, model, batch, weights)
    )


@pytest.mark.parametrize("layers", [0, 1, 2, 4])
def test_a_node_hears_as_many_edges_away_as_there_are_layers(layers: int) -> None:
    path = np.stack([np.arange(8), np.arange(1, 9)])
    features = np.random.default_rng(0).random((9, FEATURES), np.float32)
    changed = features.copy()
    changed[0] = changed[0, ::-1] + 1
    method = make_method(layers=layers, scale="none")
    model = method.build(0).eval()

    before, after = (
        scores(method, model, NodeGraph.whole(each, path)) for each in (features, changed)
    )

    moved = (before != after).any(1).tolist()
    assert moved == [node <= layers for node in range(9)]


def test_without_layers_it_is_a_perceptron() -> None:
    method, graph = make_method(layers=0), make_graph()
    network = method.build(0).eval().cloud

    rows = torch.from_numpy(graph.features_NF)
    rows = rows / rows.sum(1, keepdim=True)
    expected = network.classify(network.enter(rows).relu())

    torch.testing.assert_close(scores(method, method.build(0).eval(), graph), expected.detach())


@pytest.mark.parametrize("settings", [{}, {"variant": True}, {"layers": 0}])
@pytest.mark.parametrize("nodes", [2, 40, 200])
def test_the_device_scores_what_torch_scores(settings: dict[str, Any], nodes: int) -> None:
    method, model, bundle = made(**settings)
    graph = make_graph(nodes, 3 * nodes)

    assert same(on_device(bundle, graph), scores(method, model, graph).numpy())


@pytest.mark.parametrize("layers", [2, 3])
def test_an_ego_graph_with_true_degrees_gives_its_centre_what_the_whole_graph_does(
    layers: int,
) -> None:
    method, model, bundle = made(layers=layers)
    graph = make_graph(120, 180)
    features, edges, degrees = map(
        torch.from_numpy, (graph.features_NF, graph.edges_2E, graph.degrees_N)
    )
    batch = make_batch(graph)
    cloud = NodeBatch(features, spread_sparse(edges, degrees), batch.labels_NC, batch.targets_M)
    whole = method.score(model, cloud).detach().numpy()

    egos = [graph.ego(node, layers) for node in range(len(graph))]

    assert max(len(ego) for ego in egos) < len(graph)
    assert same(np.stack([on_device(bundle, ego)[0] for ego in egos]), whole)


def test_an_ego_graph_with_its_own_degrees_would_not() -> None:
    method, graph = make_method(), make_graph(120, 180)
    model = method.build(0).eval()
    whole = scores(method, model, graph).numpy()

    egos = [graph.ego(node, 2) for node in range(len(graph))]
    wrong = [NodeGraph.whole(ego.features_NF, ego.edges_2E) for ego in egos]

    assert not same(np.stack([scores(method, model, each)[0].numpy() for each in wrong]), whole)


def test_uniform_weights_are_the_plain_loss_to_the_bit() -> None:
    method, batch = make_method(), make_batch(make_graph())
    model = method.build(0).eval()

    weighted = loss_of(method, model, batch, torch.ones(40))

    plain = functional.cross_entropy(method.score(model, batch), batch.labels_NC)
    assert torch.equal(weighted, plain)


def test_a_weight_counts_as_often_as_it_says() -> None:
    method, graph = make_method(), make_graph()
    model = method.build(0).eval()
    twice = make_batch(graph, [0, 1, 1, 3])

    weighted = loss_of(method, model, make_batch(graph, [0, 1, 3]), torch.tensor([1.0, 2, 1]))

    torch.testing.assert_close(weighted * 3, loss_of(method, model, twice, torch.ones(4)) * 4)


def test_the_devices_network_is_not_moved_while_the_cloud_s_learns_nor_the_other_way() -> None:
    method = make_method(device_width=4)
    model = method.build(0)

    trainable = [set(stage.trainable(model)) for stage in method.stages()]

    assert not trainable[0] & trainable[1]
    assert trainable[0] | trainable[1] == set(model.parameters())


def test_distilled_alone_the_device_learns_the_cloud_s_opinion_and_no_label() -> None:
    method, graph = make_method(device_width=4, distil=1.0), make_graph()
    model = method.build(0).eval()

    one, other = (
        loss_of(method, model, make_batch(graph, seed=seed), torch.ones(40)) for seed in (0, 1)
    )

    opinion = model.cloud(make_batch(graph).features_NF, make_batch(graph).spread).softmax(1)
    expected = functional.cross_entropy(method.score(model, make_batch(graph)), opinion)
    assert torch.equal(one, other)
    torch.testing.assert_close(one, expected)


def test_each_depth_is_a_choice() -> None:
    choices = make_method(depths=(1, 3)).choices()

    assert [choice.config.layers for choice in choices] == [1, 3]
    assert all(choice.config.depths == () for choice in choices)


def test_devices_get_the_smaller_network() -> None:
    method, model, bundle = made(device_width=4)
    graph = make_graph()

    assert same(on_device(bundle, graph), scores(method, model, graph).numpy())
    assert len(bundle.graph(CLASSIFIER)) < len(made()[2].graph(CLASSIFIER))


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(BadSetting, match="set device_width too"):
        make_method(device_layers=1)
    with pytest.raises(UnknownName, match=r"did you mean 'ggcn.layers'"):
        make_method(layer=1)
    with pytest.raises(BadSetting, match="classifies the nodes of a graph: give --prefix"):
        resolve("ggcn", 10, "sasrec", {})
    with pytest.raises(BadSetting, match="ranks items and reads no graph: give --log"):
        resolve_nodes("base", NodeSpec(features=1, classes=2), {})
