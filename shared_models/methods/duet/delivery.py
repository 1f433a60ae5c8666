"""What a device gets of DUET: the head's weights, the code behind them, or more of the model.

All deliveries serve the same trained network and give the same scores; they differ in what a
refresh costs. ``dense`` and ``model`` are what it would cost to send more than the head, and
``generator`` what the device could do by itself.
"""

# Shapes: B rows, T events in the window, G events in the uplink, C candidates, Z code.

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from shared_models.layers.sequence import newest_windows
from shared_models.method import ScorerExport
from shared_models.methods.duet.config import Config
from shared_models.methods.duet.network import DuetNetwork
from shared_models.trunks.ranker import Ranker, SlottedScorer

CODE = "code"


class CodedScorer(nn.Module):
    """The ranker and the generator's last, affine layer: the slot is the code."""

    def __init__(self, network: DuetNetwork) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, *slots: Tensor) -> Tensor:
        """Logits (B, C) through the head that the code (Z,) stands for."""
        (code_Z,) = slots
        head = {name: value.squeeze(0) for name, value in self.network.slots(code_Z[None]).items()}
        scores_BC: Tensor = self.network.ranker(event_ids_BT, candidate_ids_BC, head)
        return scores_BC


class ReplaceableScorer(nn.Module):
    """A ranker of which any parameters are fed."""

    def __init__(self, ranker: Ranker, names: tuple[str, ...]) -> None:
        super().__init__()
        self.ranker, self.names = ranker, names

    @override
    def forward(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, *slots: Tensor) -> Tensor:
        """Logits (B, C)."""
        named = dict(zip(self.names, slots, strict=True))
        scores_BC: Tensor = functional_call(self.ranker, named, (event_ids_BT, candidate_ids_BC))
        return scores_BC


class SelfSufficientScorer(nn.Module):
    """Ranker and generator in one: reads the uplink's window, asks nobody."""

    def __init__(self, network: DuetNetwork, window: int) -> None:
        super().__init__()
        self.network, self.window = network, window

    @override
    def forward(self, event_ids_BG: Tensor, candidate_ids_BC: Tensor) -> Tensor:
        """Logits (B, C), each row through its own head."""
        code_BZ = self.network.code(event_ids_BG)
        windows_BT = newest_windows(event_ids_BG, self.window)
        scores_BC: Tensor = self.network(windows_BT, candidate_ids_BC, code_BZ)
        return scores_BC


def exported(network: DuetNetwork, config: Config) -> ScorerExport:
    """What devices run."""
    ranker = network.ranker
    match config.delivery:
        case "weights":
            return ScorerExport(SlottedScorer(ranker), ranker.head.slots)
        case "code":
            return ScorerExport(CodedScorer(network), {CODE: torch.zeros(config.code)})
        case "generator":
            return ScorerExport(SelfSufficientScorer(network, config.features.window))
        case _:
            named = _replaced(ranker, whole=config.delivery == "model")
            return ScorerExport(ReplaceableScorer(ranker, tuple(named)), named)


def written(network: DuetNetwork, config: Config, code_BZ: Tensor) -> Mapping[str, Tensor]:
    """Slot values (B, *shape) for codes."""
    if config.delivery == "code":
        return {CODE: code_BZ}
    head = network.slots(code_BZ)
    if config.delivery == "weights":
        return head
    named = _replaced(network.ranker, whole=config.delivery == "model")
    own = {_parameter(name): value for name, value in head.items()}
    rows = len(code_BZ)
    return {
        name: own.get(name, value.detach()[None].expand(rows, *value.shape))
        for name, value in named.items()
    }


def _replaced(ranker: Ranker, *, whole: bool) -> dict[str, Tensor]:
    """The parameters that are sent; what has a row for each item only where ``whole``."""
    return {
        name: value
        for name, value in ranker.named_parameters()
        if whole or not name.startswith("trunk.items.")
    }


def _parameter(slot: str) -> str:
    """The ranker's name of a slot: ``head.0.weight`` is ``head.layers.0.weight``."""
    return slot.replace("head.", "head.layers.", 1)
