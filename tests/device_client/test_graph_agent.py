"""A device process whose devices hold graphs, under a simulation's orders."""

import os

import numpy as np
import pytest
import zstandard

from device_client.settings import DeviceSettings
from protos.v1 import simulation_pb2 as plane
from shared_models.contract.errors import BadAsk
from shared_models.contract.nodes import NodeGraph
from tests.device_client.node_bundles import (
    CLASSES,
    FEATURES,
    drawn_graph,
    expected_scores,
    node_bundle,
)
from tests.device_client.test_agent import END, LEAVE, Script, begin, follow, switch_to


def arrival(
    index: int, user: int, graph: NodeGraph, known: int, more: int, asked: list[int]
) -> plane.Arrival:
    """Nodes ``known`` to ``known + more`` of ``graph``, with their edges to those before."""
    count = known + more
    ends = graph.edges_2E[:, (graph.edges_2E < count).all(0)]
    new = ends[:, (ends >= known).any(0) & (ends[0] < ends[1])]
    features = graph.features_NF[known:count].astype("<f4").tobytes()
    return plane.Arrival(
        index=index,
        user=user,
        features=zstandard.compress(features),
        pairs=new.astype("<i4").tobytes(),
        degrees=graph.degrees_N[:count].astype("<f4").tobytes(),
        asked=asked,
    )


def round_of(number: int, *arrivals: plane.Arrival) -> plane.Order:
    return plane.Order(round=plane.Round(number=number, arrivals=arrivals))


def said(script: Script) -> list[np.ndarray]:
    """Scores by report, (asked nodes, C)."""
    pages = script.said("classified")
    return [np.frombuffer(page.scores, "<f4").reshape(-1, CLASSES) for page in pages]


async def test_devices_classify_their_graphs_as_these_grow(settings: DeviceSettings) -> None:
    one, other = drawn_graph(9, 14, seed=1), drawn_graph(4, 5, seed=2)
    orders = (
        round_of(1, arrival(0, 7, one, 0, 5, [0, 2]), arrival(1, 8, other, 0, 4, [3])),
        round_of(2, arrival(0, 7, one, 5, 4, [2, 8])),
    )
    script = Script(begin(), *orders, END, LEAVE)

    servicer = await follow(script, node_bundle(), settings)

    first, second = said(script)
    np.testing.assert_allclose(
        first[:2], expected_scores(one.part(np.arange(5)))[[0, 2]], rtol=1e-5
    )
    np.testing.assert_allclose(first[2:], expected_scores(other)[[3]], rtol=1e-5)
    np.testing.assert_allclose(second, expected_scores(one)[[2, 8]], rtol=1e-5)
    assert [list(page.arrivals) for page in script.said("classified")] == [[0, 1], [0]]
    assert all(seconds > 0 for page in script.said("classified") for seconds in page.seconds)
    assert [done.round for done in script.said("round_done")] == [1, 2]
    (account,) = script.said("run_done")
    assert {row.purpose for row in account.traffic} == {"bundle"}
    assert account.traffic[0].bytes_down >= len(servicer.packed)
    kept = {row.user: row.count for row in account.state_bytes}
    assert kept[7] > kept[8] > 0
    assert script.said("joined")[0].pid == os.getpid()


async def test_the_next_bundle_classifies_what_is_there(settings: DeviceSettings) -> None:
    graph, bundle, better = drawn_graph(4, 5), node_bundle(), node_bundle(scale=3.0)
    orders = (
        round_of(1, arrival(0, 1, graph, 0, 4, [0])),
        switch_to(better),
        round_of(2, arrival(0, 1, graph, 4, 0, [0])),
    )
    script = Script(begin(), *orders, END, LEAVE)

    await follow(script, bundle, settings, better)

    before, after = said(script)
    np.testing.assert_allclose(after, 3 * before, rtol=1e-5)
    assert script.said("ready")[-1].bundle_id == better.id


async def test_a_bundle_that_does_not_work_here_is_not_taken_over(settings: DeviceSettings) -> None:
    bundle, bad = node_bundle(), node_bundle(vector_scale=2.0)
    script = Script(begin(), switch_to(bad), END, LEAVE)

    await follow(script, bundle, settings, bad)

    assert [ready.bundle_id for ready in script.said("ready")] == [bundle.id, bundle.id]


async def test_a_memory_is_as_long_as_the_settings_say(settings: DeviceSettings) -> None:
    graph = drawn_graph(6, 8)
    orders = (round_of(1, arrival(0, 1, graph, 0, 6, [5])),)
    script = Script(begin('{"graph_nodes": 2}'), *orders, END, LEAVE)

    await follow(script, node_bundle(), settings)

    np.testing.assert_allclose(
        said(script)[0], expected_scores(graph.part(np.array([4, 5])))[[1]], rtol=1e-5
    )


@pytest.mark.parametrize(
    "change",
    [
        {"features": b"no frame"},
        {"features": zstandard.compress(b"\0" * (4 * FEATURES + 1))},
        {"pairs": b"\0" * 5},
        {"degrees": b"\0" * 4},
        {"asked": [99]},
    ],
)
async def test_what_makes_no_sense_is_told_to_the_simulation(
    settings: DeviceSettings, change: dict
) -> None:
    told = arrival(0, 1, drawn_graph(), 0, 6, [0])
    for name, value in change.items():
        told.ClearField(name)
        told.MergeFrom(plane.Arrival(**{name: value}))
    script = Script(begin(), round_of(1, told), END, LEAVE)

    with pytest.raises(BadAsk):
        await follow(script, node_bundle(), settings)

    assert script.said("failure")[0].code == "bad-ask"
