"""GRU4Rec: a recurrent network over the window (Hidasi et al., arXiv:1511.06939)."""

# Shapes: B rows, T events in the window, C candidates, D width.

from collections.abc import Mapping

from torch import Tensor, nn
from typing_extensions import override

from shared_models.config import TrunkConfig
from shared_models.layers.mlp import slotted_mlp
from shared_models.layers.sequence import newest
from shared_models.trunks.trunk import Trunk


class GRU4Rec(Trunk):
    """The newest state of a GRU, through the head, times the candidates."""

    def __init__(self, config: TrunkConfig, items: int, window: int) -> None:
        super().__init__(config, items)
        self.window = window
        self.gru = nn.GRU(config.width, config.width, batch_first=True)

    @property
    @override
    def head_sizes(self) -> tuple[int, ...]:
        return (self.config.width,) * 3

    def encode(self, event_ids_BT: Tensor) -> Tensor:
        """Behaviour states (B, D); zero for an empty window."""
        states_BTD, _ = self.gru(self.embed_history(event_ids_BT))
        return newest(states_BTD, event_ids_BT)

    @override
    def forward(
        self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, head: Mapping[str, Tensor]
    ) -> Tensor:
        taste_B1D = slotted_mlp(self.encode(event_ids_BT)[:, None], head)
        targets_BCD = self.embed_targets(candidate_ids_BC)
        return (taste_B1D * targets_BCD).sum(-1) + self.items.bias[candidate_ids_BC]
