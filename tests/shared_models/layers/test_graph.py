"""GCNII: the layer is its formula, and a node hears what is near it."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from shared_models.contract.nodes import NodeGraph
from shared_models.layers.graph import (
    GCNIILayer,
    Spread,
    identity_share,
    spread_over,
    spread_sparse,
)

NODES, WIDTH = 12, 5
WAYS = pytest.mark.parametrize("way", [spread_over, spread_sparse])


def drawn_graph(seed: int = 0, nodes: int = NODES) -> NodeGraph:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((nodes, WIDTH)).astype(np.float32)
    return NodeGraph.whole(features, rng.integers(0, nodes, (2, 2 * nodes)))


def tensors(graph: NodeGraph) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(graph.edges_2E), torch.from_numpy(graph.degrees_N)


def dense(graph: NodeGraph) -> Tensor:
    """``D^-1/2 (A + I) D^-1/2``, written out."""
    adjacency = torch.eye(len(graph))
    adjacency[graph.edges_2E[0], graph.edges_2E[1]] = 1
    roots = torch.diag((torch.from_numpy(graph.degrees_N) + 1) ** -0.5)
    return roots @ adjacency @ roots


def drawn(seed: int = 1) -> Tensor:
    return torch.randn(NODES, WIDTH, generator=torch.Generator().manual_seed(seed))


def layer(alpha: float = 0.3, *, variant: bool = False, residual: bool = True) -> GCNIILayer:
    torch.manual_seed(0)
    return GCNIILayer(WIDTH, alpha, 0.4, variant=variant, residual=residual)


@WAYS
def test_spreading_is_the_product_with_the_normalised_adjacency(way) -> None:
    graph, hidden = drawn_graph(), drawn()

    torch.testing.assert_close(way(*tensors(graph))(hidden), dense(graph) @ hidden)


@WAYS
def test_spreading_has_the_gradient_of_that_product(way) -> None:
    graph, hidden, seen = drawn_graph(), drawn().requires_grad_(), drawn(2)

    (got,) = torch.autograd.grad((way(*tensors(graph))(hidden) * seen).sum(), hidden)

    torch.testing.assert_close(got, dense(graph).T @ seen)


@WAYS
def test_a_graph_without_edges_leaves_every_node_with_itself(way) -> None:
    alone = NodeGraph.whole(np.ones((3, 1), np.float32), np.zeros((2, 0), np.int64))
    hidden = torch.randn(3, 2)

    torch.testing.assert_close(way(*tensors(alone))(hidden), hidden)


@pytest.mark.parametrize("residual", [True, False])
def test_a_layer_is_its_formula(residual: bool) -> None:
    alpha, theta, spread = 0.3, 0.4, dense(drawn_graph())
    given, hidden, first = layer(alpha, residual=residual), drawn(), drawn(2)

    got = given(hidden, first, lambda x: spread @ x)

    mixed = (1 - alpha) * spread @ hidden + alpha * first
    expected = theta * mixed @ given.weight + (1 - theta) * mixed + residual * hidden
    torch.testing.assert_close(got, expected.relu(), atol=1e-5, rtol=1e-5)


def test_the_variant_gives_neighbours_and_own_features_weights_apart() -> None:
    alpha, theta, spread = 0.3, 0.4, dense(drawn_graph())
    given, hidden, first = layer(alpha, variant=True), drawn(), drawn(2)

    got = given(hidden, first, lambda x: spread @ x)

    heard = spread @ hidden
    turned = heard @ given.weight[:WIDTH] + first @ given.weight[WIDTH:]
    kept = (1 - alpha) * heard + alpha * first
    expected = (theta * turned + (1 - theta) * kept + hidden).relu()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_a_deeper_layer_is_nearer_to_the_identity() -> None:
    shares = [identity_share(1.0, number) for number in range(1, 10)]

    assert shares == sorted(shares, reverse=True)
    # What was measured on the original.
    expected = [0.693, 0.405, 0.288, 0.223, 0.182, 0.154, 0.134, 0.118, 0.105]
    assert shares == pytest.approx(expected, abs=6e-4)
    assert identity_share(0.5, 2) == pytest.approx(math.log(1.25))


@WAYS
def test_renumbering_the_nodes_renumbers_what_comes_out(way) -> None:
    graph, order, given = drawn_graph(), np.random.default_rng(3).permutation(NODES), layer()
    hidden, first = drawn(), drawn(2)

    plain = given(hidden, first, way(*tensors(graph)))
    moved = given(hidden[order], first[order], way(*tensors(graph.part(order))))

    torch.testing.assert_close(moved, plain[order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", [True, False])
def test_only_its_own_features_reach_a_node_that_listens_to_nothing_else(variant: bool) -> None:
    given = layer(1.0, variant=variant, residual=False)
    hidden, first = drawn(), drawn(2)
    if variant:
        with torch.no_grad():
            given.weight[:WIDTH] = 0

    here, there = (given(hidden, first, over(seed)) for seed in (0, 1))

    torch.testing.assert_close(here, there)


def test_without_neighbours_and_weights_a_layer_is_a_plain_recursion() -> None:
    given, hidden, first = layer(0.3), drawn(), drawn(2)
    with torch.no_grad():
        given.weight.zero_()

    got = given(hidden, first, lambda x: x)

    expected = ((1 - 0.4) * (0.7 * hidden + 0.3 * first) + hidden).relu()
    torch.testing.assert_close(got, expected)


def over(seed: int) -> Spread:
    return spread_over(*tensors(drawn_graph(seed)))
