"""Classes of nodes: a list of zeros and ones, a number, or null where nobody knows."""

# Shapes: N nodes, C classes.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared_models.contract.errors import BadLog, BadNode
from shared_models.contract.tensors import Float32Array

_MOST: Final = 10_000
"""Classes: each is a column of the labels, whether or not a node is of it."""


@dataclass(frozen=True, slots=True)
class Classes:
    """What a class map comes to; the fields are those of `LabelledGraph`."""

    labels_NC: Float32Array
    labelled_N: NDArray[np.bool_]
    multi_label: bool


def read_classes(path: Path, told: Mapping[str, Any], ids: Sequence[str]) -> Classes:
    """Check and sort what ``path`` says of every node.

    Where no node has more than one class, a row of zeros is a node without a label; elsewhere it is
    one with none of the classes.

    Raises:
        BadNode: a node is missing, has a label of another width or kind, or is not in the graph.
        BadLog: no node has a label.
    """
    for node in ids:
        if node not in told:
            raise BadNode(path, node, "is missing")
    if len(told) > len(ids):
        raise BadNode(path, min(told.keys() - set(ids)), "is not in the graph")
    labels = [told[node] for node in ids]
    first = next((label for label in labels if label is not None), None)
    if first is None:
        raise BadLog(f"{path}: no node has a label")
    read = _lists if isinstance(first, list) else _numbers
    labels_NC = read(path, labels, ids)
    known_N = np.array([label is not None for label in labels])
    multi_label = bool((labels_NC.sum(1) > 1).any())
    labelled_N = known_N if multi_label else known_N & labels_NC.any(1)
    return Classes(labels_NC, labelled_N, multi_label)


def _numbers(path: Path, labels: Sequence[Any], ids: Sequence[str]) -> Float32Array:
    for node, label in zip(ids, labels, strict=True):
        whole = isinstance(label, int) and not isinstance(label, bool) and label >= 0
        if label is not None and not whole:
            raise BadNode(path, node, f"expected the number of a class, found {label!r}")
        if whole and label >= _MOST:
            raise BadNode(path, node, f"is of class {label}: number classes from 0 to {_MOST - 1}")
    width = 1 + max(label for label in labels if label is not None)
    labels_NC = np.zeros((len(ids), width), np.float32)
    for place, label in enumerate(labels):
        if label is not None:
            labels_NC[place, label] = 1
    return labels_NC


def _lists(path: Path, labels: Sequence[Any], ids: Sequence[str]) -> Float32Array:
    width = next(len(label) for label in labels if isinstance(label, list))
    if not width:
        raise BadLog(f"{path}: labels have no width, so there are no classes")
    labels_NC = np.zeros((len(ids), width), np.float32)
    for place, (node, label) in enumerate(zip(ids, labels, strict=True)):
        if label is None:
            continue
        if not isinstance(label, list) or len(label) != width:
            found = f"{len(label)}" if isinstance(label, list) else repr(label)
            raise BadNode(path, node, f"expected a label of width {width}, found {found}")
        if not all(value in (0, 1) for value in label):
            raise BadNode(path, node, f"expected zeros and ones, found {label}")
        labels_NC[place] = label
    return labels_NC
