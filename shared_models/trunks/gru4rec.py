"""GRU4Rec: a recurrent network over the window (Hidasi et al., arXiv:1511.06939)."""

# Shapes: B rows, T events in the window, D width.

from torch import Tensor, nn
from typing_extensions import override

from shared_models.config import TrunkConfig
from shared_models.layers.sequence import newest
from shared_models.trunks.trunk import StateTrunk


class GRU4Rec(StateTrunk):
    """The newest state of a GRU, through the head, times the candidates."""

    def __init__(self, config: TrunkConfig, items: int, window: int) -> None:
        super().__init__(config, items)
        self.window = window
        self.gru = nn.GRU(config.width, config.width, batch_first=True)

    @override
    def encode(self, event_ids_BT: Tensor) -> Tensor:
        states_BTD, _ = self.gru(self.embed_history(event_ids_BT))
        return newest(states_BTD, event_ids_BT)
