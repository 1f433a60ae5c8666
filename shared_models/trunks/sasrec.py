"""SASRec: self-attention over the window (Kang and McAuley, arXiv:1808.09781)."""

# Shapes: B rows, T events in the window, D width.

from torch import Tensor, nn
from typing_extensions import override

from shared_models.config import TrunkConfig
from shared_models.contract.events import PAD
from shared_models.layers.attention import AttentionBlock, causal
from shared_models.layers.sequence import newest, recency
from shared_models.trunks.trunk import StateTrunk


class SASRec(StateTrunk):
    """The newest position of a causal transformer, through the head, times the candidates."""

    def __init__(self, config: TrunkConfig, items: int, window: int) -> None:
        super().__init__(config, items)
        self.positions = nn.Embedding(window, config.width)
        nn.init.normal_(self.positions.weight, std=config.embedding_scale)
        self.blocks = nn.ModuleList(
            AttentionBlock(config.width, config.heads) for _ in range(config.blocks)
        )

    @override
    def encode(self, event_ids_BT: Tensor) -> Tensor:
        known_BT = event_ids_BT != PAD
        places_BT = recency(event_ids_BT, self.positions.num_embeddings)
        x_BTD = self.embed_history(event_ids_BT) + self.positions(places_BT)
        visible_BTT = causal(event_ids_BT.shape[1], event_ids_BT.device) & known_BT[:, None, :]
        for block in self.blocks[:-1]:
            x_BTD = block(x_BTD, x_BTD, visible_BTT)
        # Only the newest position is read, so the last block answers one query.
        query_B1D = newest(x_BTD, event_ids_BT)[:, None]
        state_BD: Tensor = self.blocks[-1](query_B1D, x_BTD, known_BT[:, None, :]).squeeze(1)
        return state_BD * known_BT.any(1, keepdim=True)
