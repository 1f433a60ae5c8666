"""What a network over the graph of a log's items says of them, for a trunk to lean on.

Edges and features of the graph come from the training part alone; labels are features of items,
which are known beforehand. There is no test part: nobody asks how well the network tells labels.
"""

# Shapes: V items, F width of what is said of one.

from collections.abc import Callable
from typing import Final

import numpy as np
import torch

from cloud_server.graphs.parts import GraphData
from cloud_server.graphs.train import NodeEpoch, train_nodes
from cloud_server.recipe import NodeTrainSettings
from shared_models.catalog import load_method, resolve_nodes
from shared_models.config import ItemGraph, TrunkConfig
from shared_models.contract.errors import BadSetting
from shared_models.contract.tensors import Float32Array
from shared_models.logs.graphs.from_log import Joining, graph_of_items
from shared_models.logs.graphs.labelled import LabelledGraph
from shared_models.logs.prepared import PreparedLog
from shared_models.node_method import NodeMethod, Represents

OnStep = Callable[[str, int, int, int], None]
_STAGE: Final = "items"
_SHARES: Final = (0.9, 0.1, 0.0)
_TINY: Final = 1e-6


def item_vectors(
    log: PreparedLog, trunk: TrunkConfig, settings: NodeTrainSettings, seed: int, on_step: OnStep
) -> Float32Array:
    """Train the trunk's network over the items' graph; what it says of them.

    Args:
        log: whose items; of its events only the training part is read.
        trunk: says which network, and whether each item gets another one's vector instead.
        settings: how to train.
        seed: of the network, of the nodes that validate, and of who gets whose vector.
        on_step: told of every batch, as `cloud_server.train.Watcher` is.

    Returns:
        float32 (V + 1, F), columns of mean 0 and variance 1 over items (0 where all are alike); the
        first row, which is no item, is zero.

    Raises:
        BadSetting: the items have no such column, or no features at all.
        BadLog: too few items to learn from, or none is taken near another one.
    """
    graph = _graph(log, trunk.graph, seed)
    vectors_VF = _standardised(_represented(graph, trunk.graph, settings, seed, on_step))
    if trunk.features == "graph-shuffled":
        vectors_VF = np.random.default_rng(seed).permutation(vectors_VF)
    return np.vstack([np.zeros_like(vectors_VF[:1]), vectors_VF])


def _graph(log: PreparedLog, how: ItemGraph, seed: int) -> LabelledGraph:
    try:
        return graph_of_items(log, how.labels, Joining(seed=seed, shares=_SHARES))
    except BadSetting as error:
        problem = f"{error.problem}: without one to learn, set trunk.features=none"
        raise BadSetting(f"trunk.graph.{error.path}", problem) from error


def _represented(
    graph: LabelledGraph, how: ItemGraph, settings: NodeTrainSettings, seed: int, on_step: OnStep
) -> Float32Array:
    # Features of such graphs are residuals of both signs, whose sums mean nothing.
    own = {"width": how.width, "layers": how.layers, "scale": "none"}
    config = resolve_nodes(how.network, graph.spec, {how.network: own})
    method: NodeMethod = load_method(how.network, config)
    assert isinstance(method, Represents)  # noqa: S101 - the config names such methods only
    trained, _ = train_nodes(method, graph, settings, seed, _Steps(on_step))
    batch = GraphData(graph, torch.device("cpu")).whole("train")
    with torch.inference_mode():
        vectors_VF: Float32Array = method.represent(trained.model, batch).numpy()
    return vectors_VF


def _standardised(vectors_VF: Float32Array) -> Float32Array:
    spread_F = vectors_VF.std(0)
    standardised_VF = (vectors_VF - vectors_VF.mean(0)) / np.maximum(spread_F, _TINY)
    return np.where(spread_F > _TINY, standardised_VF, 0).astype(np.float32)


class _Steps:
    """Moves the bar of a training that the network is only a part of."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def on_step(self, _: str, epoch: int, step: int, steps: int) -> None:
        """A batch is done."""
        self._on_step(_STAGE, epoch, step, steps)

    def on_epoch(self, stage: str, record: NodeEpoch) -> None:
        """Its epochs are not the training's."""
