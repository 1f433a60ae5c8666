"""Graphs and their parts."""

import numpy as np

from shared_models.contract.nodes import NodeGraph

PATH = NodeGraph.whole(
    np.eye(6, dtype=np.float32), np.array([[0, 1, 2, 3, 3], [1, 2, 3, 4, 1]], np.int64)
)


def test_the_part_around_a_node_ends_where_the_hops_do() -> None:
    reached = [PATH.around(np.array([0]), hops).tolist() for hops in range(4)]

    assert reached == [[0], [0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]]


def test_the_centre_comes_first() -> None:
    assert PATH.around(np.array([3]), 1).tolist() == [3, 1, 2, 4]
    assert PATH.ego(3, 1).features_NF.argmax(1).tolist() == [3, 1, 2, 4]


def test_a_part_has_its_own_edges_and_the_degrees_of_the_whole() -> None:
    part = PATH.part(np.array([3, 1, 5]))

    assert part.edges_2E.tolist() == [[0, 1], [1, 0]]
    assert part.degrees_N.tolist() == [3, 3, 0]


def test_edges_of_a_part_are_in_order() -> None:
    edges = PATH.part(np.array([4, 3, 2, 1, 0])).edges_2E

    assert (np.diff(edges[0] * 5 + edges[1]) > 0).all()


def test_a_node_alone_is_a_graph() -> None:
    alone = PATH.ego(5, 3)

    assert len(alone) == 1
    assert alone.edges_2E.shape == (2, 0)
