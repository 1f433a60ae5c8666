"""popularity: the same ranking for everybody, by how often items were taken in training."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from shared_models.method import Batch, Facts, ScorerExport, Stage
from shared_models.methods.popularity.config import Config

# Shapes: B rows, T events in the window, C candidates, V items.


class PopularityNetwork(nn.Module):
    """How often each item was taken, beside the mean item."""

    popularity: Tensor

    def __init__(self, popularity_V: Tensor) -> None:
        super().__init__()
        self.register_buffer("popularity", popularity_V)

    @override
    def forward(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor) -> Tensor:
        """Logits (B, C)."""
        # The window takes part with a weight of nothing: an exporter drops inputs without use.
        unread_B1 = event_ids_BT.sum(1, keepdim=True) * 0
        scores_BC: Tensor = self.popularity[candidate_ids_BC + unread_B1]
        return scores_BC


class Popularity:
    """The floor of every table."""

    name = "popularity"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, seed: int, facts: Facts | None = None) -> nn.Module:  # noqa: ARG002 - no chance in it
        """A module that knows how popular items are, or nothing yet."""
        items = self.config.features.items
        share_V = torch.zeros(items + 1) if facts is None else facts.popularity_V
        return PopularityNetwork(share_V * items)

    def stages(self) -> Sequence[Stage]:
        """Counting was all."""
        return []

    def score(self, model: nn.Module, batch: Batch, age: int = 0) -> Tensor:  # noqa: ARG002 - no overlay, no age
        """Logits (B, C)."""
        scores_BC: Tensor = model(batch.history_BH, batch.candidates_BC)
        return scores_BC

    def export(self, model: nn.Module) -> ScorerExport:
        """The counts as they are; no slots."""
        return ScorerExport(model)


METHOD = Popularity
