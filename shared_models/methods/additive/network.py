"""A ranker, and an encoder whose code is added to the head's input through static layers."""

# Shapes: B rows, T events in the window, G events in the uplink, C candidates, Z code, O offset.

from torch import Tensor, nn
from typing_extensions import override

from shared_models.layers.hypernetwork import CodeEncoder
from shared_models.layers.mlp import MLP
from shared_models.method import Facts
from shared_models.methods.additive.config import Config
from shared_models.trunks.ranker import Ranker

SLOT = "head.0.bias"
"""Joining the code to the head's input is adding a vector to the first layer's bias."""


class AdditiveNetwork(nn.Module):
    """A `Ranker` and as many parameters as DUET's generator has, in a wide two-layer network."""

    def __init__(self, config: Config, facts: Facts | None = None) -> None:
        super().__init__()
        self.ranker = Ranker(config.trunk, config.features, facts)
        self.encoder = CodeEncoder(config.trunk.width, config.code)
        slots = self.ranker.head.slots
        offset = slots[SLOT].numel()
        written = config.code * sum(value.numel() for value in slots.values())
        hidden = round((written - offset) / (config.code + 1 + offset))
        self.static = MLP((config.code, hidden, offset))

    def offset(self, uplink_BG: Tensor) -> Tensor:
        """What is added to the first layer (B, O); zero for a user without behaviour."""
        history_BGD = self.ranker.trunk.embed_history(uplink_BG)
        offset_BO: Tensor = self.static(self.encoder(history_BGD, uplink_BG))
        return offset_BO * (uplink_BG != 0).any(1, keepdim=True)

    @override
    def forward(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, offset_BO: Tensor) -> Tensor:
        """Logits (B, C)."""
        slots = self.ranker.head.slots
        moved = {**slots, SLOT: slots[SLOT] + offset_BO}
        logits_BC: Tensor = self.ranker(event_ids_BT, candidate_ids_BC, moved)
        return logits_BC
