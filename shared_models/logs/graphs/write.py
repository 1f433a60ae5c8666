"""A labelled graph as the files that `read_graph` reads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shared_models.logs.graphs.files import beside
from shared_models.logs.graphs.labelled import PARTS, LabelledGraph


def write_graph(graph: LabelledGraph, prefix: Path) -> None:
    """Write ``PREFIX-G.json``, ``-id_map.json``, ``-class_map.json`` and ``-feats.npy``.

    The first comes last, so that a reader finds all of them or is told what is missing.

    Raises:
        BadSetting: the prefix ends with a folder.
    """
    features = beside(prefix, "feats.npy")
    prefix.parent.mkdir(parents=True, exist_ok=True)
    draft = prefix.with_name(f".{features.name}.draft")
    with draft.open("wb") as file:
        np.save(file, graph.graph.features_NF, allow_pickle=False)
    draft.replace(features)
    known = zip(graph.ids, graph.labels_NC.astype(int).tolist(), graph.labelled_N, strict=True)
    _write(prefix, "class_map", {node: label if has else None for node, label, has in known})
    _write(prefix, "id_map", {node: row for row, node in enumerate(graph.ids)})
    _write(prefix, "G", _node_link(graph))


def _node_link(graph: LabelledGraph) -> dict[str, Any]:
    validation, test = PARTS.index("validation"), PARTS.index("test")
    nodes = [
        {"id": node, "val": part == validation, "test": part == test}
        for node, part in zip(graph.ids, graph.part_N.tolist(), strict=True)
    ]
    one_way = graph.graph.edges_2E[:, graph.graph.edges_2E[0] < graph.graph.edges_2E[1]]
    links = [
        {"source": graph.ids[source], "target": graph.ids[target]}
        for source, target in one_way.T.tolist()
    ]
    return {"directed": False, "multigraph": False, "graph": {}, "nodes": nodes, "links": links}


def _write(prefix: Path, name: str, content: Mapping[str, Any]) -> None:
    path = beside(prefix, f"{name}.json")
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content))
    draft.replace(path)
