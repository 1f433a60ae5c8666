"""Weights that are written by a network: behaviour in, one set of layer weights a user out."""

# Shapes: B users, G events in the uplink, D width, Z width of the code.

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from typing_extensions import override

from shared_models.layers.mlp import MLP
from shared_models.layers.sequence import newest


class CodeEncoder(nn.Module):
    """Reads embedded behaviour into a latent code: a GRU, then two dense layers."""

    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)
        self.code = MLP((width, width, code))

    @override
    def forward(self, history_BGD: Tensor, event_ids_BG: Tensor) -> Tensor:
        """Codes (B, Z); zero for a user without behaviour."""
        states_BGD, _ = self.gru(history_BGD)
        code_BZ: Tensor = self.code(newest(states_BGD, event_ids_BG))
        return code_BZ * (event_ids_BG != 0).any(1, keepdim=True)


class WeightWriter(nn.Module):
    """An affine map from a code to every slot, ``default + code A`` (DUET, arXiv:2209.05227).

    A zero code gives the defaults exactly, which is what a device falls back to.

    Args:
        slots: default values, whose names and shapes are written.
        code: Z.
        scale: standard deviation of A at the start.
    """

    def __init__(self, slots: Mapping[str, Tensor], code: int, scale: float) -> None:
        super().__init__()
        # One matrix for each slot: splitting before the product saves a third of the backward.
        self.matrices = nn.ParameterDict(
            {
                _parameter_name(name): nn.Parameter(torch.randn(code, value.numel()) * scale)
                for name, value in slots.items()
            }
        )

    @override
    def forward(self, code_BZ: Tensor, slots: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One value (B, *shape) for each slot in ``slots``, the defaults."""
        return {
            name: value + (code_BZ @ self.matrices[_parameter_name(name)]).reshape(-1, *value.shape)
            for name, value in slots.items()
        }


def _parameter_name(slot: str) -> str:
    return slot.replace(".", "_")
