"""GRU4Rec: a recurrent network over the window (Hidasi et al., arXiv:1511.06939)."""

# Shapes: B rows, T events in the window, D width.

from torch import Tensor, nn
from typing_extensions import override

from shared_models.config import TrunkConfig
from shared_models.contract.features import FeatureSpec
from shared_models.layers.sequence import newest
from shared_models.trunks.trunk import SequenceTrunk


class GRU4Rec(SequenceTrunk):
    """The newest state of a GRU, through the head, times the candidates."""

    def __init__(self, config: TrunkConfig, features: FeatureSpec, contexts: int = 0) -> None:
        super().__init__(config, features, contexts)
        self.gru = nn.GRU(config.width, config.width, batch_first=True)

    @override
    def encode(self, event_ids_BT: Tensor) -> Tensor:
        return newest(self.encode_positions(event_ids_BT), event_ids_BT)

    @override
    def encode_positions(self, event_ids_BT: Tensor) -> Tensor:
        states_BTD: Tensor = self.gru(self.embed_history(event_ids_BT))[0]
        return states_BTD
