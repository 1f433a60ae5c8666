"""The interface of a method that classifies nodes; beside it stands that of those that rank.

The cloud trains on a large graph, a device classifies the nodes of its own small one. Weights come
in as a torch module, values go out, and training is data: stages that one loop runs.
"""

# Shapes: N nodes, M nodes that count, F features, C classes, D width.

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from shared_models.config import NodeConfig
from shared_models.layers.graph import Spread


@dataclass(frozen=True, slots=True)
class NodeBatch:
    """A graph, or a part of one, on one torch device.

    Attributes:
        features_NF: float32.
        spread: what nodes hear from themselves and their neighbours.
        labels_NC: float32, 1 for a node's classes.
        targets_M: int64, the nodes that count.
    """

    features_NF: Tensor
    spread: Spread
    labels_NC: Tensor
    targets_M: Tensor


Weigh = Callable[[nn.Module, NodeBatch, Tensor, torch.Generator], Tensor]
"""Weights (M,), at least 0 and 1 in the mean, from model, batch, those before, and a generator."""


@dataclass(frozen=True, slots=True)
class NodeStage:
    """A part of training, as data.

    Attributes:
        name: for people.
        trainable: the parameters that this stage moves.
        scores: logits (N, C), to learn and to validate by.
        loss: a scalar from model, batch, those logits and weights (M,) of the nodes that count.
        weigh: how the nodes that count are weighed; None: alike.
    """

    name: str
    trainable: Callable[[nn.Module], Iterable[nn.Parameter]]
    scores: Callable[[nn.Module, NodeBatch], Tensor]
    loss: Callable[[nn.Module, NodeBatch, Tensor, Tensor], Tensor]
    weigh: Weigh | None = None


@runtime_checkable
class NodeMethod(Protocol):
    """One way for a cloud and its devices to classify nodes together."""

    @property
    def name(self) -> str:
        """Equals the folder's name."""
        ...

    @property
    def config(self) -> NodeConfig:
        """Frozen settings; their hash is part of a bundle's identity."""
        ...

    def choices(self) -> Sequence[Self]:
        """The same with each of the settings that validation is to choose among."""
        ...

    def build(self, seed: int) -> nn.Module:
        """A fresh module."""
        ...

    def stages(self) -> Sequence[NodeStage]:
        """How to train it."""
        ...

    def score(self, model: nn.Module, batch: NodeBatch) -> Tensor:
        """Logits (N, C) as devices compute them."""
        ...

    def export(self, model: nn.Module) -> nn.Module:
        """What devices run: ``(features_NF, edges_2E, degrees_N) -> logits_NC``."""
        ...


@runtime_checkable
class Represents(Protocol):
    """A method whose network says something of a node before it classifies it."""

    def represent(self, model: nn.Module, batch: NodeBatch) -> Tensor:
        """What is known of each node, (N, D)."""
        ...
