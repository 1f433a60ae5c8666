"""Item embeddings: one table that history, candidates and generators share."""

# Shapes: V items, M value ids of one of them, F width of what is told of it, D width.

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

    While it is trained, an item's vector may be the sum of its own and of a projection, common to
    all, of what was told of the item (`lean_on`); what is trained is one table again (`settle`).

    Args:
        items: V.
        width: D.
        scale: standard deviation at the start.
        dropout: share of vector entries dropped in training.
        fields: of the items' features, whose vectors are added to the items' own.
    """

    values: Tensor
    told_VF: Tensor

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
        self.scale, self.dropout = scale, nn.Dropout(dropout)
        self.project: nn.Linear | None = None
        self.fields = FieldEmbedding(fields.values, width, scale) if fields else None
        if fields:
            self.register_buffer("values", torch.zeros(items + 1, fields.most, dtype=torch.int64))

    @override
    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (..., D) of int64 ids (...)."""
        vectors: Tensor = self.vectors(ids)
        if self.project is not None:
            vectors = vectors + self.project(self.told_VF[ids])
        if self.fields is not None:
            vectors = vectors + self.fields(self.values[ids])
        dropped: Tensor = self.dropout(vectors)
        return dropped

    @property
    def table(self) -> Tensor:
        """Vectors (V + 1, D) of all ids; no value is dropped."""
        table_VD = self._without_fields
        return table_VD if self.fields is None else table_VD + self.fields(self.values)

    def lean_on(self, told_VF: Tensor) -> None:
        """Add a projection of ``told_VF`` (V + 1, F), as large as an item's own vector at first.

        The projection has no bias: `PAD` stays zero, and all that reads a vector begins with an
        affine layer, whose bias is the same to it.

        Args:
            told_VF: columns of unit variance, zero for `PAD`; it is not trained.
        """
        width, own = told_VF.shape[1], self.vectors.embedding_dim
        self.project = nn.Linear(width, own, bias=False)
        nn.init.normal_(self.project.weight, std=self.scale * width**-0.5)
        self.register_buffer("told_VF", told_VF)

    def settle(self) -> None:
        """Keep the sums as the items' own vectors, and nothing else."""
        if self.project is None:
            return
        with torch.no_grad():
            self.vectors.weight.copy_(self._without_fields)
        self.project = None
        del self.told_VF

    @property
    def _without_fields(self) -> Tensor:
        table_VD: Tensor = self.vectors.weight
        return table_VD if self.project is None else table_VD + self.project(self.told_VF)

    def know(self, values_VM: Tensor) -> None:
        """Take in the value ids of each item's features, int64 (V + 1, M)."""
        self.values.copy_(values_VM)

    def start_at_popularity(self, share_V: Tensor) -> None:
        """Start each bias at the log of the item's share of the log, over the mean share."""
        mean = share_V[1:].mean()
        with torch.no_grad():
            self.bias.copy_((share_V + 0.1 * mean).div(1.1 * mean).log())


def settle(model: nn.Module) -> None:
    """Leave in a trained ``model`` no more than it needs from now on; its scores are the same."""
    for part in model.modules():
        if isinstance(part, ItemEmbedding):
            part.settle()
