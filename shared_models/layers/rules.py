"""How the rows of embedding tables move: optimisers that touch what a batch looked up, alone.

Adagrad is that of Duchi et al. (JMLR 12, 2011), as `torch.optim.Adagrad` has it; the row-wise one
keeps a single accumulator for each row, as in DLRM's public code.
"""

# Shapes: R rows of all tables, D width, G bags, N ids of all bags, L of them whose row another has.

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, Literal

import torch
from torch import Tensor
from typing_extensions import override

RuleName = Literal["sgd", "adagrad", "rowwise-adagrad"]
EPSILON: Final = 1e-10
"""Added to roots."""


class Rule:
    """Moves rows against their gradients, and keeps what it must know of each.

    Args:
        rows: of the weight, R.
        width: of a row, D.
        rate: learning rate.
        device: where the weight is.
    """

    def __init__(
        self, rows: int, width: int, rate: float = 0.01, device: torch.device | None = None
    ) -> None:
        self.rate = rate
        self.moments_R = self._moments(rows, width).to(device)
        self._claims_R = torch.zeros(rows, dtype=torch.int32, device=device)
        # Kept, since fresh memory costs more than the arithmetic.
        self._room = torch.empty(2, 0, width, device=device)

    @torch.no_grad()
    def step(self, weight_RD: Tensor, row_N: Tensor, bag_N: Tensor, grad_GD: Tensor) -> None:
        """Move the rows ``row_N``, each by the sum of the gradients of the bags it was in.

        No sort finds what repeats: every id claims its row, and one of them has it in the end. The
        others give it their gradient and take the sum: ids of one row, which all read it before
        any wrote, then write the same.
        """
        if len(row_N) > self._room.shape[1]:
            self._room = self._room.new_empty(2, len(row_N), weight_RD.shape[1])
        sum_ND, moved_ND = self._room[:, : len(row_N)]
        torch.index_select(grad_GD, 0, bag_N, out=sum_ND)
        number_N = counted(len(row_N), row_N.device)
        holder_N = self._claims_R.scatter_(0, row_N, number_N).index_select(0, row_N)
        other_L = (holder_N != number_N).nonzero()[:, 0]
        into_L = holder_N.index_select(0, other_L).long()
        sum_ND.index_add_(0, into_L, sum_ND.index_select(0, other_L))
        sum_ND.index_copy_(0, other_L, sum_ND.index_select(0, into_L))
        torch.index_select(weight_RD, 0, row_N, out=moved_ND)
        self._move(moved_ND, row_N, sum_ND)
        weight_RD.index_copy_(0, row_N, moved_ND)

    def _moments(self, rows: int, width: int) -> Tensor:  # noqa: ARG002 - of others
        """What is known of each row at the start, (R, ...)."""
        return torch.zeros(rows, 0)

    def _move(self, moved_ND: Tensor, row_N: Tensor, grad_ND: Tensor) -> None:
        """Move rows against their gradients, in place."""
        raise NotImplementedError


class Sgd(Rule):
    """The gradient times the rate."""

    @override
    def _move(self, moved_ND: Tensor, row_N: Tensor, grad_ND: Tensor) -> None:
        moved_ND.sub_(grad_ND, alpha=self.rate)


class Adagrad(Rule):
    """An accumulator of squares for each number."""

    @override
    def _moments(self, rows: int, width: int) -> Tensor:
        return torch.zeros(rows, width)

    @override
    def _move(self, moved_ND: Tensor, row_N: Tensor, grad_ND: Tensor) -> None:
        sums_ND = self.moments_R.index_select(0, row_N).addcmul_(grad_ND, grad_ND)
        self.moments_R.index_copy_(0, row_N, sums_ND)
        moved_ND.addcdiv_(grad_ND, sums_ND.sqrt_().add_(EPSILON), value=-self.rate)


class RowwiseAdagrad(Rule):
    """One accumulator for each row: the mean of the squares of its gradient."""

    @override
    def _moments(self, rows: int, width: int) -> Tensor:
        return torch.zeros(rows)

    @override
    def _move(self, moved_ND: Tensor, row_N: Tensor, grad_ND: Tensor) -> None:
        norm_N = torch.linalg.vector_norm(grad_ND, dim=1)
        sums_N = self.moments_R.index_select(0, row_N)
        sums_N.addcmul_(norm_N, norm_N, value=1 / grad_ND.shape[1])
        self.moments_R.index_copy_(0, row_N, sums_N)
        root_N = sums_N.sqrt_().add_(EPSILON)
        moved_ND.addcdiv_(grad_ND, root_N[:, None], value=-self.rate)


RULES: Final[Mapping[RuleName, Callable[[int, int, float, torch.device], Rule]]] = {
    "sgd": Sgd,
    "adagrad": Adagrad,
    "rowwise-adagrad": RowwiseAdagrad,
}


@lru_cache(maxsize=4)
def counted(count: int, device: torch.device) -> Tensor:
    """0, 1, ..., to be read only: batches have one size, or a few."""
    return torch.arange(count, dtype=torch.int32, device=device)
