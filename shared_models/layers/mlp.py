"""Multi-layer perceptrons, with their own weights or with weights that are handed in."""

# Shapes: B rows, C candidates, N in, O out.

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class MLP(nn.Sequential):
    """Linear layers with tanh between them, none after the last; Xavier weights, zero biases."""

    def __init__(self, sizes: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.Tanh()]
        super().__init__(*layers[:-1])
        for layer in self:
            _start(layer)


def _start(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


class SlottedMLP(nn.Module):
    """An `MLP` whose weights are slots: its own are the defaults, others may be fed.

    The slots are called ``head.0.weight`` (O, N), ``head.0.bias`` (O,), ``head.1.weight``, ...
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        for layer in self.layers:
            _start(layer)

    @property
    def slots(self) -> dict[str, Tensor]:
        """The default values by slot name."""
        return {
            f"head.{index}.{part}": getattr(layer, part)
            for index, layer in enumerate(self.layers)
            for part in ("weight", "bias")
        }


def slotted_mlp(x_BCN: Tensor, slots: Mapping[str, Tensor]) -> Tensor:
    """Apply the layers in ``slots``, shared by all rows (O, N) or one set for each (B, O, N)."""
    depth = len(slots) // 2
    for index in range(depth):
        weight, bias = slots[f"head.{index}.weight"], slots[f"head.{index}.bias"]
        x_BCN = x_BCN @ weight.transpose(-1, -2) + bias.unsqueeze(-2)
        if index < depth - 1:
            x_BCN = torch.tanh(x_BCN)
    return x_BCN
