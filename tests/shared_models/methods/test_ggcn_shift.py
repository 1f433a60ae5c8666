"""Decorrelation: weights that take apart what goes together, in the cloud alone."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from shared_models.contract.errors import UnknownName
from shared_models.logs.graphs.spurious import heard_features, spurious_graph
from shared_models.methods.ggcn.config import Decorrelation
from shared_models.methods.ggcn.reweighting import covariance, decorrelated, fourier_features
from shared_models.node_export import CLASSIFIER, compile_node_bundle
from tests.shared_models.layers.test_graph import dense
from tests.shared_models.methods.test_ggcn import loss_of, make_batch, make_graph, make_method

NODES = 300
ALL = torch.zeros(NODES, dtype=torch.int64)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def correlated() -> Tensor:
    """Three dimensions, of which the second follows the first and the third its square."""
    first = torch.randn(NODES, generator=chance())
    noise = torch.randn(NODES, 2, generator=chance(1)) / 2
    return torch.stack([first, first + noise[:, 0], first**2 + noise[:, 1]], 1)


def learned(rounds: int, **how: Any) -> Tensor:
    weights, drawn = torch.ones(NODES), chance()
    for _ in range(rounds):
        weights = decorrelated(correlated(), weights, ALL, Decorrelation(**how), drawn)
    return weights


def test_the_covariance_is_what_one_sums_by_hand() -> None:
    weights = torch.rand(20, generator=chance()) + 0.5
    weights = weights / weights.mean()
    features = torch.randn(20, 3, 2, generator=chance(1))

    expected = 0.0
    means = (weights[:, None, None] * features).mean(0)
    for one in range(3):
        for other in range(one + 1, 3):
            left, right = features[:, one] - means[one], features[:, other] - means[other]
            block = (weights[:, None] * left).T @ right / 20
            expected += float(block.square().sum())

    assert float(covariance(weights, features)) == pytest.approx(expected, rel=1e-4)


def test_fourier_features_are_bounded_and_of_unit_size() -> None:
    features = fourier_features(correlated() * 50 + 7, 40, chance())

    assert features.shape == (NODES, 3, 40)
    assert float(features.abs().max()) <= 2**0.5
    assert float(features.square().mean()) == pytest.approx(1, abs=0.1)


def test_a_dimension_that_says_nothing_does_no_harm() -> None:
    values = torch.cat([correlated(), torch.ones(NODES, 1)], 1)

    weights = decorrelated(values, torch.ones(NODES), ALL, Decorrelation(), chance())

    assert torch.isfinite(weights).all()


def test_weights_are_at_least_0_and_1_in_the_mean() -> None:
    weights = learned(20, pull=0.0)

    assert float(weights.min()) >= 0
    assert float(weights.mean()) == pytest.approx(1, abs=1e-5)
    assert float(weights.std()) > 0.1


def test_no_class_is_weighed_away() -> None:
    classes = (correlated()[:, 0] > 1).long()

    weights = torch.ones(NODES)
    for _ in range(40):
        weights = decorrelated(correlated(), weights, classes, Decorrelation(pull=0.0), chance())

    assert float(weights[classes == 0].mean()) == pytest.approx(1, abs=1e-4)
    assert float(weights[classes == 1].mean()) == pytest.approx(1, abs=1e-4)
    assert float(weights.std()) > 0.1


def test_weighing_takes_apart_what_goes_together_also_where_it_is_not_linear() -> None:
    values, weights = correlated(), learned(40, pull=0.01)
    features = fourier_features(values, 50, chance(9))

    before, after = (covariance(each, features) for each in (torch.ones(NODES), weights))

    assert float(after) < 0.6 * float(before)
    centred = values - (weights[:, None] * values).mean(0)
    together = (weights[:, None] * centred).T @ centred / NODES
    roots = together.diagonal().sqrt()
    plain = np.corrcoef(values.numpy().T)
    assert abs(float(together[0, 1] / roots[0] / roots[1])) < 0.8 * abs(plain[0, 1])


def test_nothing_is_learned_where_weights_are_held() -> None:
    held, free = learned(10, pull=1000.0), learned(10, pull=0.0)

    assert float(held.std()) < 0.2 * float(free.std())


def test_the_network_is_not_moved_by_weighing() -> None:
    method, batch = make_method(decorrelate={"of": "state"}), make_batch(make_graph())
    model = method.build(0).eval()
    (stage,) = method.stages()
    assert stage.weigh is not None

    weights = stage.weigh(model, batch, torch.ones(40), chance())

    assert all(parameter.grad is None for parameter in model.parameters())
    assert not weights.requires_grad
    assert weights.shape == (40,)


@pytest.mark.parametrize("of", ["heard", "state"])
def test_only_nodes_that_count_are_weighed(of: str) -> None:
    method, batch = make_method(decorrelate={"of": of}), make_batch(make_graph(), [1, 4, 7, 9])
    (stage,) = method.stages()
    assert stage.weigh is not None

    weights = stage.weigh(method.build(0).eval(), batch, torch.ones(4), chance())

    assert weights.shape == (4,)
    assert not torch.equal(weights, torch.ones(4))


def test_a_device_s_graph_is_the_same_with_and_without_weighing() -> None:
    graphs = []
    for how in (None, {}):
        method = make_method(decorrelate=how)
        bundle = compile_node_bundle(method, method.build(0), "none")
        graphs.append(onnx.load_from_string(bundle.graph(CLASSIFIER)))
        loss = loss_of(method, method.build(0).eval(), make_batch(make_graph()), torch.ones(40))
        graphs.append(loss.item())

    assert graphs[0] == graphs[2]
    assert graphs[1] == graphs[3]


def test_a_setting_that_is_not_there_is_told() -> None:
    with pytest.raises(UnknownName, match=r"ggcn\.decorrelate\.off"):
        make_method(decorrelate={"off": "state"})


def test_the_spurious_feature_says_nothing_of_the_class_once_the_core_is_known() -> None:
    drawn = spurious_graph(20_000, 0.8, 0)
    graph, classes = drawn.graph.graph, drawn.graph.labels_NC[:, 1]
    core = heard_features(graph)[:, :6].sum(1)
    core = core / core.std()
    spurious = graph.features_NF[:, 6]

    near = np.abs(core) < 0.1

    assert np.corrcoef(spurious, core)[0, 1] == pytest.approx(0.8, abs=0.02)
    assert np.corrcoef(spurious, classes)[0, 1] > 0.5
    assert abs(np.corrcoef(spurious[near], classes[near])[0, 1]) < 0.05
    assert drawn.best == pytest.approx(0.872, abs=0.005)


def test_what_nodes_hear_without_torch_is_what_they_hear_with_it() -> None:
    graph = make_graph()

    expected = dense(graph) @ torch.from_numpy(graph.features_NF)

    np.testing.assert_allclose(heard_features(graph), expected.numpy(), atol=1e-5)


def test_a_single_node_weighs_as_one() -> None:
    alone = torch.zeros(1, dtype=torch.int64)

    weights = decorrelated(correlated()[:1], torch.ones(1), alone, Decorrelation(), chance())

    torch.testing.assert_close(weights, torch.ones(1))
