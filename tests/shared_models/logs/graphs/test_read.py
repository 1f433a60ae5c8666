"""Graphs in the original's format: what they come to, and what is refused with the node's id."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared_models.contract.errors import BadLog, BadNode, BadSetting, PathMissing, TooSmall
from shared_models.logs.graphs import absent
from shared_models.logs.graphs.labelled import LabelledGraph
from shared_models.logs.graphs.read import read_graph, read_walks
from shared_models.logs.graphs.write import write_graph
from tests.shared_models.logs.graphs.conftest import files, put


def test_every_edge_counts_once_in_either_direction_and_no_node_is_its_own_neighbour(
    prefix: Path,
) -> None:
    graph = read_graph(prefix)

    assert graph.ids == ("a", "b", "c", "d", "e", "f")
    assert graph.graph.edges_2E.T.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 2]]
    assert graph.graph.degrees_N.tolist() == [1, 2, 2, 1, 0, 0]


def test_features_are_those_of_the_row_that_the_id_map_names(prefix: Path) -> None:
    graph = read_graph(prefix)

    assert graph.graph.features_NF.dtype == np.float32
    np.testing.assert_array_equal(graph.graph.features_NF, files()["feats"][::-1])


def test_a_node_without_a_label_is_in_no_part_but_in_the_graph(prefix: Path) -> None:
    graph = read_graph(prefix)

    parts = {part: graph.nodes(part).tolist() for part in ("train", "validation", "test")}
    assert parts == {"train": [0, 1], "validation": [2], "test": [3, 4]}
    assert len(graph) == 6
    assert not graph.multi_label


def test_where_nodes_have_several_classes_none_of_them_is_a_label_and_null_is_not(
    tmp_path: Path,
) -> None:
    told = files()
    told["class_map"] |= {"a": [1, 1], "b": [0, 0], "f": None}

    graph = read_graph(put(told, tmp_path))

    assert graph.multi_label
    assert graph.spec.multi_label
    assert graph.nodes("train").tolist() == [0, 1]


def test_classes_may_be_numbers(tmp_path: Path) -> None:
    told = files()
    told["class_map"] = {"a": 0, "b": 2, "c": 1, "d": 0, "e": 0, "f": None}

    graph = read_graph(put(told, tmp_path))

    assert graph.labels_NC[:2].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert graph.labelled_N.tolist() == [True] * 5 + [False]


def test_links_by_place_are_read_where_ids_are_words_as_networkx_1_wrote_them(
    tmp_path: Path,
) -> None:
    told = files()
    told["G"]["links"] = [{"source": 0, "target": 4}]

    graph = read_graph(put(told, tmp_path))

    assert graph.graph.edges_2E.tolist() == [[0, 4], [4, 0]]


def test_numbers_that_are_ids_are_ids(tmp_path: Path) -> None:
    told = files()
    for place, node in enumerate(told["G"]["nodes"]):
        node["id"] = 10 + place
    told["G"]["links"] = [{"source": 10, "target": 12}]
    for name in ("id_map", "class_map"):
        told[name] = {str(10 + "abcdef".index(node)): value for node, value in told[name].items()}

    graph = read_graph(put(told, tmp_path))

    assert graph.graph.edges_2E.tolist() == [[0, 2], [2, 0]]


def test_without_features_a_node_has_the_size_of_its_degree_or_itself(prefix: Path) -> None:
    prefix.with_name("small-feats.npy").unlink()

    by_degree, by_itself = (read_graph(prefix, kind) for kind in ("degree", "identity"))

    assert by_degree.graph.features_NF.argmax(1).tolist() == [1, 1, 1, 1, 0, 0]
    assert by_degree.spec.features == absent.BUCKETS
    np.testing.assert_array_equal(by_itself.graph.features_NF, np.eye(6))


def test_identity_is_refused_where_it_would_fill_the_memory() -> None:
    pairs = np.zeros((2, 0), np.int64)

    with pytest.raises(BadSetting, match="at most 20,000 nodes: choose degree"):
        absent.features_from_structure(pairs, 20_001, "identity")


def test_the_hash_names_the_content_and_not_the_place(prefix: Path, tmp_path: Path) -> None:
    changed = files()
    changed["feats"][0, 0] += 1
    elsewhere, other = tmp_path / "x", tmp_path / "y"
    elsewhere.mkdir()
    other.mkdir()

    same, different = (read_graph(put(*each)) for each in ((files(), elsewhere), (changed, other)))

    assert same.hash == read_graph(prefix).hash != different.hash


@pytest.mark.parametrize("several", [False, True])
def test_what_is_written_is_read(prefix: Path, tmp_path: Path, several: bool) -> None:
    graph = read_graph(prefix)
    if several:
        labels = np.array([[1, 1], [0, 0], [1, 0], [0, 1], [1, 1], [0, 0]], np.float32)
        about = (labels, graph.labelled_N, graph.part_N, True)
        graph = LabelledGraph("many", graph.ids, graph.graph, *about)

    write_graph(graph, tmp_path / "new" / "copy")

    again = read_graph(tmp_path / "new" / "copy")
    assert again.hash == graph.hash
    assert again.ids == graph.ids
    np.testing.assert_array_equal(again.labelled_N, graph.labelled_N)


def test_walks_are_pairs_of_nodes(prefix: Path) -> None:
    ids = read_graph(prefix).ids
    assert read_walks(prefix, ids) is None
    prefix.with_name("small-walks.txt").write_text("a\tc\nf\tb\n")

    walks = read_walks(prefix, ids)

    assert walks is not None
    assert walks.tolist() == [[0, 5], [2, 1]]


@pytest.mark.parametrize(
    ("text", "told"),
    [("a\tc\na\tzz\n", "node 'zz': is not in the graph (line 2)"), ("a\n", "line 1: expected two")],
)
def test_a_walk_beyond_the_graph_is_refused(prefix: Path, text: str, told: str) -> None:
    prefix.with_name("small-walks.txt").write_text(text)

    with pytest.raises(BadLog, match=re.escape(told)):
        read_walks(prefix, read_graph(prefix).ids)


def _nan(told: dict[str, Any]) -> None:
    told["feats"][3, 1] = np.nan


def _infinite(told: dict[str, Any]) -> None:
    told["feats"][0, 0] = -np.inf


def _label(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda told: told["class_map"].update(c=value)


FAULTS: list[tuple[Callable[[dict[str, Any]], Any], str, str]] = [
    (
        lambda t: t["G"]["links"].append({"source": "b", "target": "zz"}),
        "zz",
        "is not in the graph",
    ),
    (lambda t: t["G"]["links"].append({"source": 6, "target": "a"}), "6", "but link 5 ends there"),
    (lambda t: t["G"]["nodes"].append({"id": "a"}), "a", "is there twice"),
    (lambda t: t["G"]["nodes"][1].pop("val"), "b", "true or false under 'val' and 'test'"),
    (lambda t: t["G"]["nodes"][1].update(val=True, test=True), "b", "in the validation and in the"),
    (lambda t: t["id_map"].pop("d"), "d", "id_map.json: .*is missing"),
    (lambda t: t["id_map"].update(d="2"), "d", "has no row, but '2'"),
    (lambda t: t["id_map"].update(d=-1), "d", "has no row, but -1"),
    (lambda t: t["id_map"].update(d=1), "e", "has row 1, as node 'd' has"),
    (lambda t: t["id_map"].update(d=6), "d", "has row 6 of 6"),
    (lambda t: t["id_map"].update(zz=6), "zz", "is not in the graph"),
    (lambda t: t["class_map"].pop("c"), "c", "class_map.json: .*is missing"),
    (lambda t: t["class_map"].update(zz=[0, 1]), "zz", "is not in the graph"),
    (_label([1, 0, 0]), "c", "expected a label of width 2, found 3"),
    (_label(1), "c", "expected a label of width 2, found 1"),
    (_label([0, 2]), "c", "expected zeros and ones, found"),
    (_nan, "c", "feature 1 is nan"),
    (_infinite, "f", "feature 0 is -inf"),
]


@pytest.mark.parametrize(("change", "node", "told"), FAULTS)
def test_a_malformed_graph_is_refused_with_the_id_of_the_node(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], node: str, told: str
) -> None:
    content = files()
    change(content)

    with pytest.raises(BadNode, match=told) as caught:
        read_graph(put(content, tmp_path))

    assert caught.value.node == node
    assert f"node {node!r}" in str(caught.value)


@pytest.mark.parametrize("label", [-1, "x", True, [1]])
def test_a_class_that_is_no_number_is_refused_with_the_id(tmp_path: Path, label: Any) -> None:
    content = files()
    content["class_map"] = dict.fromkeys("abcdef", 1) | {"e": label}

    with pytest.raises(BadNode, match="node 'e': expected the number of a class"):
        read_graph(put(content, tmp_path))


@pytest.mark.parametrize("name", ["G.json", "id_map.json", "class_map.json"])
def test_a_file_that_is_not_there_is_told_by_its_name(prefix: Path, name: str) -> None:
    prefix.with_name(f"small-{name}").unlink()

    with pytest.raises(PathMissing, match=f"small-{name}: no such file"):
        read_graph(prefix)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("G.json", "{", "not JSON"),
        ("G.json", "[]", "expected an object, found list"),
        ("G.json", '{"nodes": [{}], "links": []}', "entry 0 of 'nodes' has no 'id'"),
        ("G.json", '{"nodes": [{"id": 1}]}', "a list of links"),
        ("G.json", '{"nodes": [{"id": 1}], "links": [{"source": 1}]}', "no 'target'"),
        ("id_map.json", "[1]", "expected an object"),
        ("feats.npy", "junk", "not an array of numbers"),
    ],
)
def test_a_file_of_another_kind_is_refused(prefix: Path, name: str, text: str, told: str) -> None:
    prefix.with_name(f"small-{name}").write_text(text)

    with pytest.raises(BadLog, match=told):
        read_graph(prefix)


def test_features_that_are_no_table_of_numbers_are_refused(prefix: Path) -> None:
    np.save(prefix.with_name("small-feats.npy"), np.zeros((6, 2, 2)))

    with pytest.raises(BadLog, match=r"expected numbers \(nodes, features\)"):
        read_graph(prefix)


def test_features_in_an_archive_are_refused(prefix: Path) -> None:
    path = prefix.with_name(f"{prefix.name}-feats.npy")
    with path.open("wb") as file:
        np.savez(file, features=files()["feats"])

    with pytest.raises(BadLog, match="not an array of numbers"):
        read_graph(prefix)


@pytest.mark.parametrize("name", [".", "/", ""])
def test_a_prefix_without_a_name_is_refused(name: str, prefix: Path) -> None:
    for use in (read_graph, partial(write_graph, read_graph(prefix))):
        with pytest.raises(BadSetting, match="names no graph: give FOLDER/NAME"):
            use(Path(name))


def test_the_number_of_a_class_is_bounded(tmp_path: Path) -> None:
    told = files()
    told["class_map"] |= dict.fromkeys("abcde", 9_999) | {"f": None}
    graph = read_graph(put(told, tmp_path))
    told["class_map"]["c"] = 10_000

    with pytest.raises(BadNode, match="node 'c': is of class 10000: number classes from 0 to 9999"):
        read_graph(put(told, tmp_path))

    assert graph.labels_NC.shape == (6, 10_000)
    assert graph.labels_NC.sum(1).tolist() == [1, 1, 1, 1, 1, 0]


def test_a_graph_without_nodes_or_without_labels_is_too_little(tmp_path: Path) -> None:
    nodeless, unlabelled = files(), files()
    nodeless["G"]["nodes"] = []
    unlabelled["class_map"] = dict.fromkeys("abcdef")

    with pytest.raises(TooSmall, match="expected a list of nodes"):
        read_graph(put(nodeless, tmp_path))
    with pytest.raises(BadLog, match="no node has a label"):
        read_graph(put(unlabelled, tmp_path))
