"""When a refresh is worth its bytes: a small network that compares two windows.

The mechanism is that of IntellectReq (arXiv:2302.07335): the device keeps the window of its last
refresh and a learnt score of the pair (now, then) decides. The score here is the expected drop of
the loss, regressed on what refreshing really changed in training.
"""

# Shapes: B rows, G events in the uplink, D width.

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from shared_models.layers.mlp import MLP
from shared_models.layers.sequence import mean_known, newest
from shared_models.trunks.trunk import Trunk


class Gate(nn.Module):
    """Expected gain of a refresh."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = MLP((4 * width, hidden, 1))

    @override
    def forward(self, now_BD: Tensor, then_BD: Tensor) -> Tensor:
        """Gains (B,) for what `seen` makes of both windows, (B, 2D) each."""
        gain_B1: Tensor = self.layers(torch.cat([now_BD, now_BD - then_BD], dim=-1))
        return gain_B1.squeeze(-1)


class Controller(nn.Module):
    """What a device runs: the gate over the trunk's embeddings, and a distance without learning."""

    def __init__(self, trunk: Trunk, gate: Gate) -> None:
        super().__init__()
        self.trunk, self.gate = trunk, gate

    @override
    def forward(self, event_ids_BG: Tensor, refreshed_ids_BG: Tensor) -> tuple[Tensor, Tensor]:
        """Change (B,), 1 - the cosine of the windows' mean items; gain (B,), of the gate."""
        now_BD, then_BD = seen(self.trunk, event_ids_BG), seen(self.trunk, refreshed_ids_BG)
        width = self.trunk.config.width
        change_B = 1 - functional.cosine_similarity(now_BD[:, :width], then_BD[:, :width])
        return change_B, self.gate(now_BD, then_BD)


def seen(trunk: Trunk, event_ids_BG: Tensor) -> Tensor:
    """The mean and the newest of a window's embedded items, side by side: (B, 2D)."""
    history_BGD = trunk.embed_history(event_ids_BG)
    mean_BD, newest_BD = mean_known(history_BGD, event_ids_BG), newest(history_BGD, event_ids_BG)
    return torch.cat([mean_BD, newest_BD], dim=-1)
