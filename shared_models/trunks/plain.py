"""The method that a trunk is by itself: what base ships, and what others start from."""

# Shapes: B rows, C candidates, T events in the window.

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.config import MethodConfig
from shared_models.layers.sequence import cut_windows
from shared_models.method import Batch, Facts, Stage
from shared_models.trunks.ranker import Ranker


class PlainTraining:
    """Builds, trains and scores a `Ranker` whose head is the same for everybody."""

    def __init__(self, config: MethodConfig) -> None:
        self.config = config

    def build(self, seed: int, facts: Facts | None = None) -> nn.Module:
        """A fresh `Ranker`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Ranker(self.config.trunk, self.config.features, facts)

    def stages(self) -> Sequence[Stage]:
        """One stage over every parameter."""

        def scores(model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
            return self.score(model, batch)

        def loss(model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
            logits_BC = scores(model, batch, rng)
            return functional.binary_cross_entropy_with_logits(logits_BC, batch.labels_BC)

        return [Stage("trunk", nn.Module.parameters, loss, scores)]

    def score(self, model: nn.Module, batch: Batch, age: int = 0) -> Tensor:  # noqa: ARG002 - no overlay, no age
        """Logits (B, C)."""
        windows_BT = cut_windows(batch.history_BH, self.config.features.window)
        logits_BC: Tensor = model(windows_BT, batch.candidates_BC)
        return logits_BC
