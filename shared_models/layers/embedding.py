"""Item embeddings: one table that history, candidates and generators share."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from shared_models.contract.events import PAD


class ItemEmbedding(nn.Module):
    """Vectors and biases of V items; row `PAD` is zero and stays zero.

    Args:
        items: V.
        width: D.
        scale: standard deviation at the start.
        dropout: share of vector entries dropped in training.
    """

    def __init__(self, items: int, width: int, *, scale: float, dropout: float) -> None:
        super().__init__()
        self.vectors = nn.Embedding(items + 1, width, padding_idx=PAD)
        nn.init.normal_(self.vectors.weight, std=scale)
        with torch.no_grad():
            self.vectors.weight[PAD] = 0
        self.bias = nn.Parameter(torch.zeros(items + 1))
        self.dropout = nn.Dropout(dropout)

    @override
    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (..., D) of int64 ids (...)."""
        vectors: Tensor = self.dropout(self.vectors(ids))
        return vectors

    def start_at_popularity(self, share_V: Tensor) -> None:
        """Start each bias at the log of the item's share of the log, over the mean share."""
        mean = share_V[1:].mean()
        with torch.no_grad():
            self.bias.copy_((share_V + 0.1 * mean).div(1.1 * mean).log())
