"""GCNII over a graph of any size, the cloud's and the devices'."""

# Shapes: N nodes, F features, C classes, D width, E directed edges.

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from shared_models.layers.graph import GCNIILayer, Spread, identity_share, spread_over
from shared_models.methods.ggcn.config import Config

_TINY = 1e-6
"""Keeps rows of zeros finite; the exporter drops constants up to 1e-8."""


class GCNII(nn.Module):
    """Features into a first state, layers that mix it along edges, and a linear classifier.

    Args:
        config: everything but the size.
        width: D.
        layers: how many; none make it a perceptron that reads no edges.
    """

    def __init__(self, config: Config, width: int, layers: int) -> None:
        super().__init__()
        self.scaled, self.dropout = config.scale == "rows", config.dropout
        self.enter = nn.Linear(config.nodes.features, width)
        self.layers = nn.ModuleList(
            GCNIILayer(
                width,
                config.alpha,
                identity_share(config.decay, number),
                variant=config.variant,
                residual=config.residual,
            )
            for number in range(1, layers + 1)
        )
        self.classify = nn.Linear(width, config.nodes.classes)

    @override
    def forward(self, features_NF: Tensor, spread: Spread) -> Tensor:
        """Logits (N, C)."""
        logits_NC: Tensor = self.classify(self._dropped(self.represent(features_NF, spread)))
        return logits_NC

    def represent(self, features_NF: Tensor, spread: Spread) -> Tensor:
        """What is known of each node before it is classified, (N, D)."""
        if self.scaled:
            features_NF = features_NF / features_NF.abs().sum(1, keepdim=True).clamp(min=_TINY)
        first_ND = hidden_ND = functional.relu(self.enter(self._dropped(features_NF)))
        for layer in self.layers:
            hidden_ND = layer(self._dropped(hidden_ND), first_ND, spread)
        return hidden_ND

    def _dropped(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.dropout, self.training)


class Networks(NamedTuple):
    """The cloud's network, and the one that devices run, which may be the same."""

    cloud: GCNII
    device: GCNII


class GgcnNetwork(nn.Module):
    """The cloud's network, and one within the budget of devices where there is one.

    Args:
        config: sizes and all else.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.cloud = GCNII(config, config.width, config.layers)
        self.small: GCNII | None = None
        if config.device_width is not None:
            layers = config.layers if config.device_layers is None else config.device_layers
            self.small = GCNII(config, config.device_width, layers)

    @property
    def networks(self) -> Networks:
        """Both."""
        return Networks(self.cloud, self.small or self.cloud)


class DeviceClassifier(nn.Module):
    """A network over inputs that a device has.

    Args:
        network: trained.
    """

    def __init__(self, network: GCNII) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, features_NF: Tensor, edges_2E: Tensor, degrees_N: Tensor) -> Tensor:
        """Logits (N, C)."""
        if not self.network.layers:
            # An exporter drops inputs without use.
            unread = edges_2E.sum() * 0 + degrees_N.sum() * 0
            features_NF = features_NF + torch.zeros_like(features_NF) * unread
        logits_NC: Tensor = self.network(features_NF, spread_over(edges_2E, degrees_N))
        return logits_NC
