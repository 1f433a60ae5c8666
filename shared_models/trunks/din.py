"""DIN: each candidate reads the behaviour that concerns it (Zhou et al., arXiv:1706.06978)."""

# Shapes: B rows, T events in the window, C candidates, D width, N = 2 D.

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from shared_models.config import TrunkConfig
from shared_models.contract.events import PAD
from shared_models.layers.attention import masked_softmax
from shared_models.layers.mlp import slotted_mlp
from shared_models.trunks.trunk import Trunk


class DIN(Trunk):
    """Attention from candidates to behaviour, then the head on both, side by side."""

    target_layers = 1

    def __init__(self, config: TrunkConfig, items: int, window: int) -> None:
        super().__init__(config, items)
        self.window = window
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.key = nn.Linear(config.width, config.width, bias=False)
        self.value = nn.Linear(config.width, config.width, bias=False)

    @property
    @override
    def head_sizes(self) -> tuple[int, ...]:
        width = self.config.width
        return (2 * width, 4 * width, 2 * width, 1)

    @override
    def embed_targets(self, candidate_ids_BC: Tensor) -> Tensor:
        return torch.tanh(super().embed_targets(candidate_ids_BC))

    @override
    def before_head(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor) -> tuple[Tensor, ...]:
        history_BTD = self.embed_history(event_ids_BT)
        targets_BCD = self.embed_targets(candidate_ids_BC)
        logits_BCT = self.query(targets_BCD) @ self.key(history_BTD).transpose(-1, -2)
        logits_BCT = logits_BCT * self.config.width**-0.5
        weights_BCT = masked_softmax(logits_BCT, (event_ids_BT != PAD)[:, None, :])
        interest_BCD = weights_BCT @ self.value(history_BTD)
        bias_BC = self.items.bias[candidate_ids_BC]
        return torch.cat([targets_BCD, interest_BCD], dim=-1), bias_BC

    @override
    def through_head(self, read: Sequence[Tensor], head: Mapping[str, Tensor]) -> Tensor:
        both_BCN, bias_BC = read
        return slotted_mlp(both_BCN, head).squeeze(-1) + bias_BC
