"""Graph convolution with an initial residual and an identity mapping (GCNII, arXiv:2007.02133).

``Â = D^-1/2 (A + I) D^-1/2`` with the degrees of the whole graph, so that a part of a graph gives
its inner nodes what the whole would.
"""

# Shapes: N nodes, E directed edges, D width.

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

Spread = Callable[[Tensor], Tensor]
"""``H_ND -> Â H``: what every node hears from itself and its neighbours."""


def spread_over(edges_2E: Tensor, degrees_N: Tensor) -> Spread:
    """``Â`` by gathering and adding along edges: operators that every runtime has.

    Args:
        edges_2E: int64, from and to, each edge in both directions.
        degrees_N: float32, neighbours in the whole graph.
    """
    source_E, target_E = edges_2E[0], edges_2E[1]
    roots_N = (degrees_N + 1).rsqrt()

    def spread(hidden_ND: Tensor) -> Tensor:
        # Both factors at the nodes: nothing is multiplied for each edge.
        scaled_ND = hidden_ND * roots_N[:, None]
        return scaled_ND.index_add(0, target_E, scaled_ND[source_E]) * roots_N[:, None]

    return spread


def spread_sparse(edges_2E: Tensor, degrees_N: Tensor) -> Spread:
    """`spread_over` as a product with a sparse matrix, for training.

    Of torch's forms the compressed rows are the fastest by far, and a gradient needs no transposed
    matrix, because ``Â`` is symmetric: both were measured (docs/graphs.md).

    Args:
        edges_2E: as there, in order of the first row.
        degrees_N: as there.
    """
    nodes = len(degrees_N)
    ends_N = torch.bincount(edges_2E[0], minlength=nodes).cumsum(0)
    starts = torch.cat([ends_N.new_zeros(1), ends_N])
    roots_N = (degrees_N + 1).rsqrt()
    weights_E = roots_N[edges_2E[0]] * roots_N[edges_2E[1]]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse (CSR|invariant)", UserWarning)
        matrix = torch.sparse_csr_tensor(
            starts, edges_2E[1], weights_E, (nodes, nodes), check_invariants=False
        )
    own_N1 = (roots_N**2)[:, None]

    def spread(hidden_ND: Tensor) -> Tensor:
        heard_ND: Tensor = _Symmetric.apply(matrix, hidden_ND)  # type: ignore[no-untyped-call]
        return heard_ND + own_N1 * hidden_ND

    return spread


class _Symmetric(torch.autograd.Function):
    """A product with a symmetric sparse matrix that is no parameter."""

    @staticmethod
    @override
    def forward(ctx: torch.autograd.function.FunctionCtx, *inputs: Tensor) -> Tensor:
        matrix, hidden_ND = inputs
        ctx.matrix = matrix  # type: ignore[attr-defined]
        return matrix @ hidden_ND

    @staticmethod
    @override
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor
    ) -> tuple[None, Tensor]:
        matrix: Tensor = ctx.matrix  # type: ignore[attr-defined]
        return None, matrix @ gradients[0]


def identity_share(decay: float, layer: int) -> float:
    """``θ_l = ln(λ / l + 1)``, how much of layer l (from 1) is not the identity."""
    return math.log(decay / layer + 1)


class GCNIILayer(nn.Module):
    """``S = (1 - a) Â H + a H0``, then ``ReLU(θ S W + (1 - θ) S [+ H])``.

    The variant gives ``Â H`` and ``H0`` weights of their own: ``θ [Â H; H0] W + (1 - θ) S``.

    Args:
        width: D.
        alpha: share of the first layer's input.
        theta: of `identity_share`.
        variant: whether to be the variant.
        residual: whether to add what came in.
    """

    def __init__(
        self, width: int, alpha: float, theta: float, *, variant: bool, residual: bool
    ) -> None:
        super().__init__()
        self.alpha, self.theta, self.variant, self.residual = alpha, theta, variant, residual
        self.weight = nn.Parameter(torch.empty(width * (2 if variant else 1), width))
        bound = 1 / math.sqrt(width)
        nn.init.uniform_(self.weight, -bound, bound)

    @override
    def forward(self, hidden_ND: Tensor, first_ND: Tensor, spread: Spread) -> Tensor:
        """The next hidden state (N, D)."""
        heard_ND = spread(hidden_ND)
        mixed_ND = torch.lerp(heard_ND, first_ND, self.alpha)
        read = torch.cat([heard_ND, first_ND], 1) if self.variant else mixed_ND
        turned_ND = self.theta * (read @ self.weight) + (1 - self.theta) * mixed_ND
        return functional.relu(turned_ND + hidden_ND if self.residual else turned_ND)
