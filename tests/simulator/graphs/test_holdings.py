"""What devices hold: parts of a graph around test nodes, drawn with a shift."""

from dataclasses import replace

import numpy as np
import pytest

from shared_models.contract.errors import TooSmall
from shared_models.logs.graphs.labelled import LabelledGraph
from simulator.graphs.holdings import Holding, draw_holdings
from simulator.graphs.scenario import Holdings

MANY = Holdings(devices=400, strengths=(0.0, 0.5, 1.0), nodes=30)


def centres(holdings: list[Holding], strength: float) -> np.ndarray:
    return np.array([each.nodes_M[0] for each in holdings if each.strength == strength])


def test_a_device_holds_what_is_near_a_labelled_test_node_the_nearest_first(
    graph: LabelledGraph,
) -> None:
    for holding in draw_holdings(graph, Holdings(devices=10, hops=2, nodes=500), 0):
        centre = holding.nodes_M[:1]
        one, two = (graph.graph.around(centre, hops) for hops in (1, 2))

        assert centre[0] in graph.nodes("test")
        assert set(holding.nodes_M.tolist()) == set(two.tolist())
        assert set(holding.nodes_M[: len(one)].tolist()) == set(one.tolist())


def test_a_component_is_all_that_hangs_together(graph: LabelledGraph) -> None:
    how = Holdings(devices=2, kind="component", nodes=NODES_AT_MOST, strengths=(0.0,))

    for holding in draw_holdings(graph, how, 0):
        everything = graph.graph.around(holding.nodes_M[:1], 500)
        assert set(holding.nodes_M.tolist()) == set(everything.tolist())


NODES_AT_MOST = 10_000


def test_no_device_holds_more_than_it_may(graph: LabelledGraph) -> None:
    holdings = draw_holdings(graph, Holdings(devices=20, hops=5, nodes=25), 0)

    assert max(len(holding.nodes_M) for holding in holdings) == 25
    assert all(len(set(h.nodes_M.tolist())) == len(h.nodes_M) for h in holdings)


def test_strength_turns_the_balance_of_classes_round(graph: LabelledGraph) -> None:
    holdings = draw_holdings(graph, MANY, 0)

    rare = [graph.labels_NC[centres(holdings, s), 1].mean() for s in MANY.strengths]

    of_tests = graph.labels_NC[graph.nodes("test"), 1].mean()
    assert rare == pytest.approx([of_tests, 0.5, 1 - of_tests], abs=0.08)


def test_strength_makes_nodes_with_few_neighbours_likelier(graph: LabelledGraph) -> None:
    how = MANY.model_copy(update={"shift": "degree"})

    holdings = draw_holdings(graph, how, 0)

    degrees = [graph.graph.degrees_N[centres(holdings, s)].mean() for s in how.strengths]
    assert degrees[0] > degrees[1] > degrees[2]


def test_only_labelled_test_nodes_that_have_arrived_are_asked_about(graph: LabelledGraph) -> None:
    tests = set(graph.nodes("test").tolist())

    for holding in draw_holdings(graph, Holdings(devices=20, steps=4), 0):
        for step, end in enumerate(holding.ends):
            asked = holding.nodes_M[holding.asked(step)].tolist()
            assert set(asked) == tests & set(holding.nodes_M[:end].tolist())
        assert holding.ends[-1] == len(holding.nodes_M)
        assert 0 in holding.asked(0)


def test_the_data_seed_alone_says_who_holds_what(graph: LabelledGraph) -> None:
    def drawn(seed: int) -> list[list[int]]:
        return [each.nodes_M.tolist() for each in draw_holdings(graph, MANY, seed)]

    assert drawn(0) == drawn(0) != drawn(1)


def test_a_graph_without_labelled_test_nodes_cannot_be_played(graph: LabelledGraph) -> None:
    nobody = replace(graph, part_N=np.zeros_like(graph.part_N))

    with pytest.raises(TooSmall, match="no labelled node is in the test part"):
        draw_holdings(nobody, MANY, 0)
