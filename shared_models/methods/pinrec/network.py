"""A ranker, and plugins that bend what its trunk says of users and of candidates."""

# Shapes: B rows, T events in the window, C candidates, D width, N width of a hidden layer.

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from typing_extensions import override

from shared_models.layers.groups import by_group
from shared_models.method import Facts
from shared_models.methods.pinrec.config import Config
from shared_models.trunks.ranker import Ranker
from shared_models.trunks.trunk import Sides, Trunk

_PLACES: Final = ("interest", "target")


class Plugin(nn.Module):
    """The weights of two pure residual adapters, ``x + up tanh(down x)``.

    With ``up`` at zero, where it begins, it changes nothing, to the bit.

    Args:
        width: D.
        hidden: N.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.ModuleDict({place: nn.Linear(width, hidden) for place in _PLACES})
        self.up = nn.ModuleDict({place: nn.Linear(hidden, width) for place in _PLACES})
        for place in _PLACES:
            nn.init.xavier_uniform_(_linear(self.down[place]).weight)
            nn.init.zeros_(_linear(self.down[place]).bias)
            nn.init.zeros_(_linear(self.up[place]).weight)
            nn.init.zeros_(_linear(self.up[place]).bias)

    @property
    def slots(self) -> dict[str, Tensor]:
        """The values by slot name, as in ``plugin.interest.down.weight`` (N, D)."""
        return {
            f"plugin.{place}.{side}.{part}": getattr(layers[place], part)
            for place in _PLACES
            for side, layers in (("down", self.down), ("up", self.up))
            for part in ("weight", "bias")
        }


def plugged(sides: Sides, slots: Mapping[str, Tensor]) -> Sides:
    """What both sides come to through a plugin."""
    interest_BCD, targets_BCD = (
        _adapted(x, slots, f"plugin.{place}")
        for x, place in zip((sides.interest_BCD, sides.targets_BCD), _PLACES, strict=True)
    )
    return Sides(interest_BCD, targets_BCD, sides.bias_BC)


def _adapted(x_BCD: Tensor, slots: Mapping[str, Tensor], name: str) -> Tensor:
    down, up = (
        (slots[f"{name}.{side}.weight"], slots[f"{name}.{side}.bias"]) for side in ("down", "up")
    )
    hidden_BCN = torch.tanh(x_BCD @ down[0].T + down[1])
    return x_BCD + hidden_BCN @ up[0].T + up[1]


class PinrecNetwork(nn.Module):
    """A `Ranker`, a plugin for each group where the cloud trains them, and one that does nothing.

    Every plugin begins as the one that does nothing, which is also what devices begin with.
    """

    def __init__(self, config: Config, facts: Facts | None = None) -> None:
        super().__init__()
        self.ranker = Ranker(config.trunk, config.features, facts)
        self.nothing = Plugin(config.trunk.width, config.bottleneck).requires_grad_(False)
        count = config.groups if config.plugins == "cloud" else 0
        # One module for each: Adam leaves those alone that a batch has no rows for.
        self.plugins = nn.ModuleList(
            Plugin(config.trunk.width, config.bottleneck) for _ in range(count)
        )
        for plugin in self.plugins:
            plugin.load_state_dict(self.nothing.state_dict())

    def plugin(self, group: int) -> Plugin:
        """That of a group, from 1 on; the one that does nothing for 0, or where there are none."""
        if group == 0 or not self.plugins:
            return self.nothing
        plugin = self.plugins[group - 1]
        assert isinstance(plugin, Plugin)  # noqa: S101 - as made above
        return plugin

    @override
    def forward(
        self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, groups_B: Tensor | None = None
    ) -> Tensor:
        """Logits (B, C), each row through the plugin of its group, from 1 on; None: the trunk's."""
        sides = self.ranker.trunk.sides(event_ids_BT, candidate_ids_BC)
        if groups_B is None or not self.plugins:
            return through(self.ranker, sides)

        def bent(group: int, rows_R: Tensor) -> Tensor:
            own = Sides(*(each[rows_R] for each in sides))
            return through(self.ranker, plugged(own, self.plugin(group).slots))

        return by_group(groups_B, bent)


def through(ranker: Ranker, sides: Sides) -> Tensor:
    """Logits (B, C) of two sides through the ranker's own head."""
    return ranker.trunk.through_head(ranker.trunk.meet(sides), ranker.head.slots)


class PluggedScorer(nn.Module):
    """What a device runs: window, candidates, and the weights of a plugin.

    Args:
        network: trained.
    """

    def __init__(self, network: PinrecNetwork) -> None:
        super().__init__()
        self.ranker, self.names = network.ranker, tuple(network.nothing.slots)

    @override
    def forward(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, *slots: Tensor) -> Tensor:
        """Logits (B, C)."""
        sides = self.ranker.trunk.sides(event_ids_BT, candidate_ids_BC)
        return self.tail(sides, dict(zip(self.names, slots, strict=True)))

    def tail(self, sides: Sequence[Tensor], slots: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, C) from where the trunk's sides are known."""
        return through(self.ranker, plugged(Sides(*sides), slots))


class BeforePlugin(nn.Module):
    """The part of a trunk that no plugin touches."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    @override
    def forward(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor) -> tuple[Tensor, ...]:
        """Both sides."""
        return tuple(self.trunk.sides(event_ids_BT, candidate_ids_BC))


def _linear(layer: nn.Module) -> nn.Linear:
    assert isinstance(layer, nn.Linear)  # noqa: S101 - as made above
    return layer
