"""DLRM: dense features through a perceptron meet looked-up ones, and another one judges."""

# Shapes: B rows, N dense features, T looked-up features, D width, P what the top reads,
# L ids of a padded bag, R rows of a table, W their width.

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from shared_models.layers.interaction import DotInteraction
from shared_models.layers.tables import Bags
from shared_models.methods.dlrm.config import Architecture
from shared_models.methods.dlrm.embeddings import Embeddings

_STEPS: Final = 255
"""Steps of 8 bits."""
_SMALLEST: Final = 1e-30
"""Scale of a row whose numbers are all the same."""


def perceptron(sizes: Sequence[int], *, last: bool) -> nn.Sequential:
    """Linear layers with ReLU between them, and after the ``last`` one too.

    Weights begin normal with variance 2 / (in + out), biases with 1 / out, as in the original.
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.normal_(linear.weight, std=(2 / (fan_in + fan_out)) ** 0.5)
        nn.init.normal_(linear.bias, std=(1 / fan_out) ** 0.5)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*(layers if last else layers[:-1]))


class Meeting(nn.Module):
    """The part that is no table: bottom perceptron, interaction, top perceptron.

    Args:
        config: of the network.
        features: that are looked up, T.
    """

    def __init__(self, config: Architecture, features: int) -> None:
        super().__init__()
        self.bottom = perceptron(config.bottom, last=True)
        self.top = perceptron(config.top_sizes(features), last=False)
        dot = config.interaction == "dot"
        self.products = DotInteraction(features + 1, itself=config.itself) if dot else None

    @override
    def forward(self, dense_BN: Tensor, vectors_BTD: Tensor) -> Tensor:
        """Logits (B,)."""
        dense_BD = self.bottom(dense_BN)
        features_BFD = torch.cat([dense_BD[:, None], vectors_BTD], dim=1)
        if self.products is None:
            meeting_BP = features_BFD.flatten(1)
        else:
            meeting_BP = torch.cat([dense_BD, self.products(features_BFD)], dim=1)
        logits_B1: Tensor = self.top(meeting_BP)
        return logits_B1[:, 0]


class DLRM(nn.Module):
    """The whole network.

    Args:
        config: of the network.
        values: of each looked-up feature, T of them.
        seed: of all weights.
    """

    def __init__(self, config: Architecture, values: Sequence[int], seed: int) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config, values, seed)
        self.meeting = built_meeting(config, len(values), seed)

    @override
    def forward(self, dense_BN: Tensor, bags: Bags) -> Tensor:
        """Logits (B,)."""
        logits_B: Tensor = self.meeting(dense_BN, self.embeddings(bags))
        return logits_B

    @property
    def weights(self) -> dict[str, Tensor]:
        """All of it, tables by feature as in ``tables.3.rows``: independent of how it is stored."""
        network = {f"network.{name}": t for name, t in self.meeting.state_dict().items()}
        return {**self.embeddings.state, **network}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take in `weights` of another one."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])


def built_meeting(config: Architecture, features: int, seed: int) -> Meeting:
    """A fresh `Meeting`; chance elsewhere is left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Meeting(config, features)


def probabilities(config: Architecture, logits_B: Tensor) -> Tensor:
    """Of a click, kept away from 0 and 1 by the threshold."""
    edge = config.loss_threshold
    chance_B = torch.sigmoid(logits_B)
    return chance_B.clamp(edge, 1 - edge) if edge else chance_B


def losses(config: Architecture, logits_B: Tensor, labels_B: Tensor) -> Tensor:
    """Of each row (B,)."""
    if config.loss == "bce" and not config.loss_threshold:
        return functional.binary_cross_entropy_with_logits(logits_B, labels_B, reduction="none")
    chance_B = probabilities(config, logits_B)
    if config.loss == "bce":
        return functional.binary_cross_entropy(chance_B, labels_B, reduction="none")
    return functional.mse_loss(chance_B, labels_B, reduction="none")


class Scorer(nn.Module):
    """The network with its tables as plain numbers, 32 or 8 bits each, for inference and export.

    Args:
        embeddings: trained.
        meeting: trained with them.
        bits: of each number in tables.
    """

    def __init__(self, embeddings: Embeddings, meeting: Meeting, bits: int) -> None:
        super().__init__()
        self.embeddings, self.meeting, self.bits = embeddings, meeting, bits
        self.names: list[list[str]] = [[] for _ in self.embeddings.storages]
        for feature, name, rows_RW in self.embeddings.tables():
            self.names[feature].append(f"{feature}_{name}")
            stored = quantized(rows_RW) if bits == 8 else {"rows": rows_RW}
            for part, tensor in stored.items():
                self.register_buffer(f"{feature}_{name}_{part}", tensor)

    @override
    def forward(self, dense_BN: Tensor, ids_BTL: Tensor) -> Tensor:
        """Probabilities (B,) of ids int64 that run from 1; 0 is padding."""
        known_BTL1 = (ids_BTL > 0)[..., None].to(dense_BN.dtype)
        ids_BTL = (ids_BTL - 1).clamp(min=0)
        vectors = [
            self._vector(feature, ids_BTL[:, feature], known_BTL1[:, feature])
            for feature in range(len(self.names))
        ]
        return probabilities(
            self.embeddings.config, self.meeting(dense_BN, torch.stack(vectors, dim=1))
        )

    def _vector(self, feature: int, ids_BL: Tensor, known_BL1: Tensor) -> Tensor:
        makes = self.embeddings.storages[feature].ids
        parts = [
            (self._rows(name, make(ids_BL)) * known_BL1).sum(1)
            for name, make in zip(self.names[feature], makes, strict=True)
        ]
        return self.embeddings.vector(feature, parts)

    def _rows(self, name: str, ids_BL: Tensor) -> Tensor:
        """Rows (B, L, W) of a table."""
        rows_BLW: Tensor = getattr(self, f"{name}_rows")[ids_BL]
        if self.bits == 32:
            return rows_BLW
        scale_BL1 = getattr(self, f"{name}_scale")[ids_BL]
        least_BL1 = getattr(self, f"{name}_least")[ids_BL]
        whole_BLW: Tensor = rows_BLW.to(torch.float32) * scale_BL1 + least_BL1
        return whole_BLW


def quantized(rows_RW: Tensor) -> Mapping[str, Tensor]:
    """Rows as bytes, each row with a scale and the least of its values."""
    least_R1, most_R1 = rows_RW.amin(1, keepdim=True), rows_RW.amax(1, keepdim=True)
    scale_R1 = ((most_R1 - least_R1) / _STEPS).clamp(min=_SMALLEST)
    steps_RW = ((rows_RW - least_R1) / scale_R1).round().to(torch.uint8)
    return {"rows": steps_RW, "scale": scale_R1, "least": least_R1}
