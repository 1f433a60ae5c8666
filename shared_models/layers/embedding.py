"""Item embeddings: one table that history, candidates and generators share."""

import torch
from torch import Tensor, nn
from typing_extensions import override

from shared_models.contract.events import PAD
from shared_models.contract.features import FieldSpec


class FieldEmbedding(nn.Module):
    """The sum of the vectors of feature values.

    Args:
        values: distinct values; id 0 is none, and its vector stays zero.
        width: D.
        scale: standard deviation at the start.
    """

    def __init__(self, values: int, width: int, scale: float) -> None:
        super().__init__()
        self.vectors = nn.Embedding(values + 1, width, padding_idx=PAD)
        nn.init.normal_(self.vectors.weight, std=scale)
        with torch.no_grad():
            self.vectors.weight[PAD] = 0

    @override
    def forward(self, values: Tensor) -> Tensor:
        """Vectors (..., D) of int64 value ids (..., M)."""
        vectors: Tensor = self.vectors(values).sum(-2)
        return vectors


class ItemEmbedding(nn.Module):
    """Vectors and biases of V items; row `PAD` is zero and stays zero.

    Args:
        items: V.
        width: D.
        scale: standard deviation at the start.
        dropout: share of vector entries dropped in training.
        fields: of the items' features, whose vectors are added to the items' own.
    """

    values: Tensor

    def __init__(
        self,
        items: int,
        width: int,
        *,
        scale: float,
        dropout: float,
        fields: FieldSpec | None = None,
    ) -> None:
        super().__init__()
        self.vectors = nn.Embedding(items + 1, width, padding_idx=PAD)
        nn.init.normal_(self.vectors.weight, std=scale)
        with torch.no_grad():
            self.vectors.weight[PAD] = 0
        self.bias = nn.Parameter(torch.zeros(items + 1))
        self.dropout = nn.Dropout(dropout)
        self.fields = FieldEmbedding(fields.values, width, scale) if fields else None
        if fields:
            self.register_buffer("values", torch.zeros(items + 1, fields.most, dtype=torch.int64))

    @override
    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (..., D) of int64 ids (...)."""
        vectors: Tensor = self.vectors(ids)
        if self.fields is not None:
            vectors = vectors + self.fields(self.values[ids])
        dropped: Tensor = self.dropout(vectors)
        return dropped

    def know(self, values_VM: Tensor) -> None:
        """Take in the value ids of each item's features, int64 (V + 1, M)."""
        self.values.copy_(values_VM)

    def start_at_popularity(self, share_V: Tensor) -> None:
        """Start each bias at the log of the item's share of the log, over the mean share."""
        mean = share_V[1:].mean()
        with torch.no_grad():
            self.bias.copy_((share_V + 0.1 * mean).div(1.1 * mean).log())
