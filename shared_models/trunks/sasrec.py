"""SASRec: self-attention over the window (Kang and McAuley, arXiv:1808.09781)."""

# Shapes: B rows, T events in the window, D width.

from typing import Final

from torch import Tensor, nn
from typing_extensions import override

from shared_models.config import TrunkConfig
from shared_models.contract.events import PAD
from shared_models.contract.features import FeatureSpec
from shared_models.layers.attention import AttentionBlock, causal
from shared_models.layers.sequence import newest, order, recency
from shared_models.trunks.trunk import SequenceTrunk

_PLACES: Final = {"recency": recency, "order": order}


class SASRec(SequenceTrunk):
    """The newest position of a causal transformer, through the head, times the candidates."""

    def __init__(self, config: TrunkConfig, features: FeatureSpec, contexts: int = 0) -> None:
        super().__init__(config, features, contexts)
        self.positions = nn.Embedding(features.window, config.width)
        nn.init.normal_(self.positions.weight, std=config.embedding_scale)
        self.blocks = nn.ModuleList(
            AttentionBlock(config.width, config.heads) for _ in range(config.blocks)
        )

    @override
    def encode(self, event_ids_BT: Tensor) -> Tensor:
        known_BT = event_ids_BT != PAD
        x_BTD = self._before_last_block(event_ids_BT)
        # Only the newest position is read, so the last block answers one query.
        query_B1D = newest(x_BTD, event_ids_BT)[:, None]
        state_BD: Tensor = self.blocks[-1](query_B1D, x_BTD, known_BT[:, None, :]).squeeze(1)
        return state_BD * known_BT.any(1, keepdim=True)

    @override
    def encode_positions(self, event_ids_BT: Tensor) -> Tensor:
        x_BTD = self._before_last_block(event_ids_BT)
        states_BTD: Tensor = self.blocks[-1](x_BTD, x_BTD, _visible(event_ids_BT))
        return states_BTD

    def _before_last_block(self, event_ids_BT: Tensor) -> Tensor:
        places_BT = _PLACES[self.config.positions](event_ids_BT, self.positions.num_embeddings)
        x_BTD: Tensor = self.embed_history(event_ids_BT) + self.positions(places_BT)
        visible_BTT = _visible(event_ids_BT)
        for block in self.blocks[:-1]:
            x_BTD = block(x_BTD, x_BTD, visible_BTT)
        return x_BTD


def _visible(event_ids_BT: Tensor) -> Tensor:
    """True where position t may read event s: known, and not after t; (B, T, T)."""
    known_B1T = (event_ids_BT != PAD)[:, None, :]
    return causal(event_ids_BT.shape[1], event_ids_BT.device) & known_B1T
