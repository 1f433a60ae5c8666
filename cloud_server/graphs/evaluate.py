"""Scores of a trained classifier on its whole graph, by torch alone."""

# Shapes: N nodes, C classes.

from typing import Any

import polars as pl
import torch

from cloud_server.checkpoints import Trained
from cloud_server.graphs.parts import GraphData
from shared_models.contract.classification import classification
from shared_models.contract.tensors import Float32Array
from shared_models.logs.graphs.labelled import PARTS, LabelledGraph
from shared_models.node_method import NodeMethod


def node_scores(trained: Trained[NodeMethod], graph: LabelledGraph) -> Float32Array:
    """Logits float32 (N, C) of the network that devices run."""
    batch = GraphData(graph, torch.device("cpu")).whole("test")
    with torch.inference_mode():
        logits_NC: Float32Array = trained.method.score(trained.model, batch).numpy()
    return logits_NC


def evaluate_nodes(scores_NC: Float32Array, graph: LabelledGraph) -> dict[str, Any]:
    """Accuracy, micro- and macro-F1 of each part's labelled nodes, and how many there are."""
    found: dict[str, Any] = {
        "protocol": f"{graph.name} ({graph.hash[:8]}), node-classification, nodes of the file's "
        "parts; a node without a label counts nowhere"
    }
    for part in PARTS:
        nodes = graph.nodes(part)
        labels_MC, multi_label = graph.labels_NC[nodes], graph.multi_label
        measured = classification(scores_NC[nodes], labels_MC, multi_label=multi_label)
        found[part] = {"nodes": len(nodes), **measured}
    return found


def node_predictions(scores_NC: Float32Array, graph: LabelledGraph) -> pl.DataFrame:
    """One row a node, in the file's order: id, part, label (null: none), scores."""
    labels = graph.labels_NC.astype("int8").tolist()
    known = zip(labels, graph.labelled_N, strict=True)
    return pl.DataFrame(
        {
            "node": list(graph.ids),
            "part": [PARTS[part] for part in graph.part_N],
            "label": [label if has else None for label, has in known],
            "scores": scores_NC.tolist(),
        },
        schema_overrides={"label": pl.List(pl.Int8), "scores": pl.List(pl.Float32)},
    )
