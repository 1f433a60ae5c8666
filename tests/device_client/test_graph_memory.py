"""What a device knows of a graph, as it comes to know it."""

import numpy as np
import pytest

from device_client.graph_memory import GraphMemory
from shared_models.contract.errors import BadAsk
from shared_models.contract.nodes import NodeGraph

FEATURES = np.arange(10, dtype=np.float32).reshape(5, 2)
PAIRS = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
DEGREES = np.array([1, 2, 5, 2, 1], np.float32)
NONE = np.zeros((2, 0), np.int64)


def grown(most: int) -> GraphMemory:
    """A path that is met in three steps, its ends last."""
    memory = GraphMemory(2, most)
    memory.learn(FEATURES[:2], PAIRS[:, :1], DEGREES[:2])
    memory.learn(FEATURES[2:3], NONE, DEGREES[:3])
    memory.learn(FEATURES[3:], PAIRS[:, 1:], DEGREES)
    return memory


def test_what_is_met_step_by_step_is_the_graph_that_is_met_at_once() -> None:
    graph, whole = grown(10).graph(), NodeGraph.whole(FEATURES, PAIRS)

    np.testing.assert_array_equal(graph.features_NF, whole.features_NF)
    np.testing.assert_array_equal(graph.edges_2E, whole.edges_2E)


def test_degrees_are_those_that_were_told_last() -> None:
    memory = grown(10)

    memory.learn(FEATURES[:0], NONE, DEGREES + 1)

    np.testing.assert_array_equal(memory.graph().degrees_N, DEGREES + 1)


def test_the_oldest_nodes_are_forgotten_with_their_edges() -> None:
    memory = grown(3)

    graph = memory.graph()

    assert memory.met == 5
    np.testing.assert_array_equal(graph.features_NF, FEATURES[2:])
    assert graph.edges_2E.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    np.testing.assert_array_equal(graph.degrees_N, DEGREES[2:])
    assert memory.places(np.array([2, 4])).tolist() == [0, 2]
    assert memory.state_bytes < grown(10).state_bytes


def test_an_edge_to_a_forgotten_node_is_dropped() -> None:
    memory = grown(3)

    memory.learn(FEATURES[:0], np.array([[0, 2], [4, 4]]), DEGREES)

    assert (0, 2) in set(zip(*memory.graph().edges_2E.tolist(), strict=True))
    assert memory.graph().edges_2E.shape == (2, 6)


@pytest.mark.parametrize("node", [1, 5, -1])
def test_a_node_that_is_not_known_is_not_answered_for(node: int) -> None:
    with pytest.raises(BadAsk, match=r"is none of 5, or that it has forgotten: it keeps 3"):
        grown(3).places(np.array([node]))


@pytest.mark.parametrize(
    ("features", "pairs", "degrees"),
    [
        (np.zeros((1, 3), np.float32), NONE, np.zeros(6)),
        (np.zeros((1, 2), np.float32), NONE, np.zeros(5)),
        (np.zeros((1, 2), np.float32), np.array([[0], [6]]), np.zeros(6)),
        (np.zeros((1, 2), np.float32), np.array([[-1], [0]]), np.zeros(6)),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    features: np.ndarray, pairs: np.ndarray, degrees: np.ndarray
) -> None:
    memory = grown(10)

    with pytest.raises(BadAsk):
        memory.learn(features, pairs, degrees.astype(np.float32))

    assert memory.met == 5
    np.testing.assert_array_equal(memory.graph().degrees_N, DEGREES)
