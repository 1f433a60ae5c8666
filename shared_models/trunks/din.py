"""DIN: each candidate reads the behaviour that concerns it (Zhou et al., arXiv:1706.06978)."""

# Shapes: B rows, T events in the window, C candidates, D width, H heads, K width of a head.

import torch
from torch import Tensor, nn
from typing_extensions import override

from shared_models.config import TrunkConfig
from shared_models.contract.events import PAD
from shared_models.contract.features import FeatureSpec
from shared_models.layers.attention import masked_softmax
from shared_models.layers.sequence import recency
from shared_models.trunks.trunk import CrossTrunk


class DIN(CrossTrunk):
    """Attention from candidates to behaviour, newer events first where nothing else decides."""

    def __init__(self, config: TrunkConfig, features: FeatureSpec, contexts: int = 0) -> None:
        super().__init__(config, features, contexts)
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.key = nn.Linear(config.width, config.width, bias=False)
        self.value = nn.Linear(config.width, config.width, bias=False)
        self.age_bias = nn.Parameter(torch.zeros(features.window, config.heads))

    @override
    def interest(self, event_ids_BT: Tensor, targets_BCD: Tensor) -> Tensor:
        history_BTD = self.embed_history(event_ids_BT)
        query_BHCK, key_BHTK, value_BHTK = (
            self._split(layer(x))
            for layer, x in (
                (self.query, targets_BCD),
                (self.key, history_BTD),
                (self.value, history_BTD),
            )
        )
        logits_BHCT = query_BHCK @ key_BHTK.transpose(-1, -2) * query_BHCK.shape[-1] ** -0.5
        age_BTH = self.age_bias[recency(event_ids_BT, len(self.age_bias))]
        logits_BHCT = logits_BHCT + age_BTH.transpose(1, 2)[:, :, None]
        weights_BHCT = masked_softmax(logits_BHCT, (event_ids_BT != PAD)[:, None, None, :])
        interest_BCD: Tensor = (weights_BHCT @ value_BHTK).transpose(1, 2).flatten(2)
        return interest_BCD

    def _split(self, x_BTD: Tensor) -> Tensor:
        rows, length, width = x_BTD.shape
        heads = self.config.heads
        return x_BTD.reshape(rows, length, heads, width // heads).transpose(1, 2)
