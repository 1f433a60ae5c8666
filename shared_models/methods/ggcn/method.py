"""ggcn: a graph network trained on the cloud's graph, run on the graphs of devices."""

# Shapes: N nodes, M nodes that count, C classes, D width.

from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.methods.ggcn.config import Config
from shared_models.methods.ggcn.network import DeviceClassifier, GgcnNetwork
from shared_models.methods.ggcn.reweighting import decorrelated
from shared_models.node_method import NodeBatch, NodeStage


class Ggcn:
    """GCNII in the cloud; devices get the same, or a smaller one that learned from it."""

    name = "ggcn"

    def __init__(self, config: Config) -> None:
        self.config = config

    def choices(self) -> Sequence[Self]:
        """One for each depth that validation is to choose among."""
        if not self.config.depths:
            return [self]
        return [
            type(self)(self.config.model_copy(update={"layers": layers, "depths": ()}))
            for layers in self.config.depths
        ]

    def build(self, seed: int) -> nn.Module:
        """A fresh `GgcnNetwork`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return GgcnNetwork(self.config)

    def stages(self) -> Sequence[NodeStage]:
        """The cloud's network, then the devices' where it is another."""
        weigh = self._weigh if self.config.decorrelate else None
        cloud = NodeStage("cloud", _cloud_parameters, _cloud_scores, self._labels_loss, weigh)
        if self.config.device_width is None:
            return [cloud]
        parts = (_device_parameters, self.score, self._device_loss, weigh)
        return [cloud, NodeStage("device", *parts)]

    def score(self, model: nn.Module, batch: NodeBatch) -> Tensor:
        """Logits (N, C) of the network that devices run."""
        logits_NC: Tensor = _network(model).networks.device(batch.features_NF, batch.spread)
        return logits_NC

    def represent(self, model: nn.Module, batch: NodeBatch) -> Tensor:
        """The last hidden state (N, D) of the cloud's network."""
        return _network(model).cloud.represent(batch.features_NF, batch.spread)

    def export(self, model: nn.Module) -> nn.Module:
        """The network that devices run."""
        return DeviceClassifier(_network(model).networks.device)

    def _weigh(
        self, model: nn.Module, batch: NodeBatch, before_M: Tensor, drawn: torch.Generator
    ) -> Tensor:
        how = self.config.decorrelate
        if how is None:
            return before_M
        with torch.no_grad():
            if how.of == "state":
                values_ND = _network(model).cloud.represent(batch.features_NF, batch.spread)
            else:
                heard_NF = batch.spread(batch.features_NF)
                values_ND = torch.cat([batch.features_NF, heard_NF], 1)
        targets_M = batch.targets_M
        groups_M = torch.zeros_like(targets_M)
        if not self.config.nodes.multi_label:
            groups_M = batch.labels_NC[targets_M].argmax(1)
        return decorrelated(values_ND[targets_M], before_M, groups_M, how, drawn)

    def _labels_loss(
        self, _: nn.Module, batch: NodeBatch, logits_NC: Tensor, weights_M: Tensor
    ) -> Tensor:
        targets_M = batch.targets_M
        losses_M = self._losses(logits_NC[targets_M], batch.labels_NC[targets_M])
        return (weights_M * losses_M).mean()

    def _device_loss(
        self, model: nn.Module, batch: NodeBatch, logits_NC: Tensor, weights_M: Tensor
    ) -> Tensor:
        """Labels where they are known, and the cloud's opinion of every node (distillation)."""
        labels = self._labels_loss(model, batch, logits_NC, weights_M)
        with torch.no_grad():
            _network(model).cloud.eval()
            told_NC = self._shares(_cloud_scores(model, batch))
        return torch.lerp(labels, self._losses(logits_NC, told_NC).mean(), self.config.distil)

    def _losses(self, logits_NC: Tensor, labels_NC: Tensor) -> Tensor:
        """Cross-entropy of each node; of several labels, the mean over classes."""
        if self.config.nodes.multi_label:
            losses_NC = functional.binary_cross_entropy_with_logits(
                logits_NC, labels_NC, reduction="none"
            )
            return losses_NC.mean(1)
        return functional.cross_entropy(logits_NC, labels_NC, reduction="none")

    def _shares(self, logits_NC: Tensor) -> Tensor:
        return logits_NC.sigmoid() if self.config.nodes.multi_label else logits_NC.softmax(1)


def _cloud_scores(model: nn.Module, batch: NodeBatch) -> Tensor:
    logits_NC: Tensor = _network(model).cloud(batch.features_NF, batch.spread)
    return logits_NC


def _cloud_parameters(model: nn.Module) -> Iterable[nn.Parameter]:
    return _network(model).cloud.parameters()


def _device_parameters(model: nn.Module) -> Iterable[nn.Parameter]:
    return _network(model).networks.device.parameters()


def _network(model: nn.Module) -> GgcnNetwork:
    assert isinstance(model, GgcnNetwork)  # noqa: S101 - built by this method's own `build`
    return model


METHOD = Ggcn
