"""Graphs of a log's items."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shared_models.contract.errors import BadSetting
from shared_models.logs.graphs.from_log import Joining, graph_of_items
from shared_models.logs.graphs.labelled import LabelledGraph
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog
from shared_models.logs.source import Source


@pytest.fixture
def log(tmp_path: Path) -> PreparedLog:
    """Ten users who take a, b, c in turn; two who take x, y in turn; z is taken last."""
    rows = [
        {"user": user, "item": items[step % len(items)], "at": float(step)}
        for user, items in enumerate(["abc"] * 10 + ["xy"] * 2)
        for step in range(20)
    ]
    rows.append({"user": 0, "item": "z", "at": 99.0})
    table = pl.DataFrame(
        {"raw": list("abcxyz"), "kind": ["Old New", "New", None, "Old", "Old", "New"]}
    )
    return prepare(Source("toy", pl.DataFrame(rows), items=table), "user-tail", tmp_path / "toy")


def neighbours(graph: LabelledGraph) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {node: set() for node in graph.ids}
    for one, other in graph.graph.edges_2E.T.tolist():
        found[graph.ids[one]].add(graph.ids[other])
    return found


def test_items_are_joined_that_one_user_takes_near_each_other(log: PreparedLog) -> None:
    graph = graph_of_items(log, "kind", Joining(within=1))

    assert neighbours(graph) == {
        "a": {"b", "c"},
        "b": {"a", "c"},
        "c": {"a", "b"},
        "x": {"y"},
        "y": {"x"},
        "z": set(),
    }


def test_what_comes_after_the_training_part_joins_nothing(log: PreparedLog) -> None:
    assert "z" in log.test.join(log.item_table, on="item")["raw"].to_list()

    assert neighbours(graph_of_items(log, "kind", Joining(within=50)))["z"] == set()


def test_words_are_classes_and_an_item_without_a_word_has_no_label(log: PreparedLog) -> None:
    graph = graph_of_items(log, "kind", Joining())

    by_id = dict(zip(graph.ids, graph.labels_NC.tolist(), strict=True))
    assert by_id["a"] == [1, 1]
    assert by_id["b"] == [1, 0]
    assert by_id["x"] == [0, 1]
    assert [graph.ids[node] for node in np.flatnonzero(~graph.labelled_N)] == ["c"]
    assert graph.multi_label


def test_the_seed_cuts_the_nodes(log: PreparedLog) -> None:
    one, same, other = (graph_of_items(log, "kind", Joining(seed=seed)) for seed in (0, 0, 1))

    assert one.hash == same.hash != other.hash


def test_a_column_that_items_do_not_have_is_told_with_those_that_they_have(
    log: PreparedLog,
) -> None:
    with pytest.raises(BadSetting, match="items have no 'genre', but kind"):
        graph_of_items(log, "genre", Joining())
