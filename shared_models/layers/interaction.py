"""How the features of one row meet: by products of each two, or side by side."""

# Shapes: B rows, F features, D width, P pairs.

import torch
from torch import Tensor, nn
from typing_extensions import override


class DotInteraction(nn.Module):
    """Scalar products of each two features, in order (1,0), (2,0), (2,1), (3,0), ...

    DLRM (arXiv:1906.00091), which keeps the lower triangle of the matrix of all products.

    Args:
        features: F.
        itself: whether a feature meets itself too.
    """

    pairs_P: Tensor

    def __init__(self, features: int, *, itself: bool = False) -> None:
        super().__init__()
        row, column = torch.tril_indices(features, features, 0 if itself else -1)
        # One index into the flat matrix: an exporter understands that, and not a pair of lists.
        self.register_buffer("pairs_P", row * features + column, persistent=False)

    @property
    def width(self) -> int:
        """P."""
        return len(self.pairs_P)

    @override
    def forward(self, features_BFD: Tensor) -> Tensor:
        """Products (B, P)."""
        products_BFF = features_BFD @ features_BFD.transpose(1, 2)
        return products_BFF.flatten(1).index_select(1, self.pairs_P)
