"""The files of GraphSAGE, which GGCN's original names: a graph, ids, classes and features.

``PREFIX-G.json`` is networkx's node-link form, ``-id_map.json`` says which row of
``-feats.npy`` a node has, ``-class_map.json`` its classes. Whatever is wrong is told with the
node's id; nothing is skipped.
"""

# Shapes: N nodes, F features, C classes, P links, W pairs of walks.

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared_models.contract.errors import BadLog, BadNode, PathMissing, TooSmall
from shared_models.contract.nodes import NodeGraph
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.logs.graphs.absent import Absent, features_from_structure
from shared_models.logs.graphs.classes import read_classes
from shared_models.logs.graphs.files import beside
from shared_models.logs.graphs.labelled import LabelledGraph

_ENDS: Final = ("source", "target")


def read_graph(prefix: Path, absent: Absent = "degree") -> LabelledGraph:
    """Read ``PREFIX-G.json`` and its companions.

    Args:
        prefix: of the files' names, folder included.
        absent: what stands for features where there is no ``-feats.npy``.

    Raises:
        BadSetting: the prefix has no name.
        PathMissing: one of the first three files is not there.
        BadLog, BadNode, TooSmall: they cannot be used.
    """
    path = _file(prefix, "G.json")
    told = _mapping(path)
    nodes = told.get("nodes")
    if not isinstance(nodes, list) or not nodes:
        raise TooSmall(f"{path}: expected a list of nodes under 'nodes'")
    ids = _ids(path, nodes)
    pairs_2P = _links(path, told, nodes, ids)
    rows_N = _rows(_file(prefix, "id_map.json"), ids)
    path_of_classes = _file(prefix, "class_map.json")
    classes = read_classes(path_of_classes, _mapping(path_of_classes), list(ids))
    features_NF = _features(beside(prefix, "feats.npy"), list(ids), rows_N)
    if features_NF is None:
        features_NF = features_from_structure(pairs_2P, len(ids), absent)
    return LabelledGraph(
        prefix.name,
        tuple(ids),
        NodeGraph.whole(features_NF, pairs_2P),
        classes.labels_NC,
        classes.labelled_N,
        _parts(path, nodes, list(ids)),
        classes.multi_label,
    )


def has_features(prefix: Path) -> bool:
    """Whether there is ``PREFIX-feats.npy``."""
    return beside(prefix, "feats.npy").is_file()


def read_walks(prefix: Path, ids: Sequence[str]) -> Int64Array | None:
    """``PREFIX-walks.txt``, pairs of nodes that random walks met: int64 (2, W); None: not there.

    Raises:
        BadNode: a pair names a node that the graph does not have.
        BadLog: a line is no pair.
    """
    path = beside(prefix, "walks.txt")
    if not path.is_file():
        return None
    place, pairs = {node: number for number, node in enumerate(ids)}, []
    with path.open() as lines:
        for number, line in enumerate(lines, 1):
            ends = line.split()
            if len(ends) != 2:
                raise BadLog(f"{path}: line {number}: expected two ids, found {len(ends)}")
            for node in ends:
                if node not in place:
                    raise BadNode(path, node, f"is not in the graph (line {number})")
            pairs.append([place[node] for node in ends])
    return np.array(pairs, np.int64).reshape(-1, 2).T


def _file(prefix: Path, name: str) -> Path:
    path = beside(prefix, name)
    if not path.is_file():
        raise PathMissing(path)
    return path


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(path.read_text())
    except ValueError as error:
        raise BadLog(f"{path}: not JSON: {error}") from error
    if not isinstance(told, dict):
        raise BadLog(f"{path}: expected an object, found {type(told).__name__}")
    return told


def _ids(path: Path, nodes: Sequence[Any]) -> dict[str, int]:
    """Place of each node, by its id as text."""
    ids: dict[str, int] = {}
    for place, node in enumerate(nodes):
        if not isinstance(node, dict) or "id" not in node:
            raise BadLog(f"{path}: entry {place} of 'nodes' has no 'id'")
        if str(node["id"]) in ids:
            raise BadNode(path, str(node["id"]), "is there twice")
        ids[str(node["id"])] = place
    return ids


def _links(
    path: Path, told: Mapping[str, Any], nodes: Sequence[Any], ids: Mapping[str, int]
) -> Int64Array:
    """Links as places of nodes, int64 (2, P).

    Numbers name places where the ids are words, as networkx 1 wrote; else all ends are ids.
    """
    links = told.get("links", told.get("edges"))
    if not isinstance(links, list):
        raise BadLog(f"{path}: expected a list of links under 'links'")
    by_place = all(isinstance(node["id"], str) for node in nodes)
    pairs = np.empty((len(links), 2), np.int64)
    for number, link in enumerate(links):
        for side, end in enumerate(_ENDS):
            if not isinstance(link, dict) or end not in link:
                raise BadLog(f"{path}: entry {number} of 'links' has no {end!r}")
            node = link[end]
            if by_place and isinstance(node, int):
                place = node if 0 <= node < len(nodes) else None
            else:
                place = ids.get(str(node))
            if place is None:
                raise BadNode(path, str(node), f"is not in the graph, but link {number} ends there")
            pairs[number, side] = place
    return pairs.T


def _parts(path: Path, nodes: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> NDArray[np.int8]:
    """0 (train), 1 (validation) or 2 (test)."""
    parts = np.zeros(len(nodes), np.int8)
    for place, node in enumerate(nodes):
        flags = node.get("val"), node.get("test")
        if not all(isinstance(flag, bool) for flag in flags):
            raise BadNode(path, ids[place], "expected true or false under 'val' and 'test'")
        if all(flags):
            raise BadNode(path, ids[place], "is in the validation and in the test part")
        parts[place] = flags.index(True) + 1 if any(flags) else 0
    return parts


def _rows(path: Path, ids: Mapping[str, int]) -> Int64Array:
    """The row of features of each node."""
    told = _mapping(path)
    rows_N, taken = np.empty(len(ids), np.int64), dict[int, str]()
    for node, place in ids.items():
        row = told.get(node)
        if not isinstance(row, int) or isinstance(row, bool) or row < 0:
            found = "is missing" if node not in told else f"has no row, but {row!r}"
            raise BadNode(path, node, found)
        if row in taken:
            raise BadNode(path, node, f"has row {row}, as node {taken[row]!r} has")
        taken[row], rows_N[place] = node, row
    for node in told:
        if node not in ids:
            raise BadNode(path, node, "is not in the graph")
    return rows_N


def _features(path: Path, ids: Sequence[str], rows_N: Int64Array) -> Float32Array | None:
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            told = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadLog(f"{path}: not an array of numbers: {error}") from error
    if told.ndim != 2 or told.dtype.kind not in "biuf" or not told.shape[1]:
        raise BadLog(f"{path}: expected numbers (nodes, features), found {told.dtype} {told.shape}")
    beyond = np.flatnonzero(rows_N >= len(told))
    if len(beyond):
        node = beyond[0]
        raise BadNode(path, ids[node], f"has row {rows_N[node]} of {len(told)}")
    features_NF: Float32Array = told[rows_N].astype(np.float32)
    wrong = np.argwhere(~np.isfinite(features_NF))
    if len(wrong):
        node, column = wrong[0]
        raise BadNode(path, ids[node], f"feature {column} is {features_NF[node, column]}")
    return features_NF
