"""How the rows of embedding tables move: optimisers that touch what a batch looked up, alone.

Adagrad is that of Duchi et al. (JMLR 12, 2011), as `torch.optim.Adagrad` has it; the row-wise one
keeps a single accumulator for each row, as in DLRM's public code.
"""

# Shapes: R rows of all tables, D width, G bags, N ids of all bags; U distinct rows of them, of
# which S are in several bags, P some that are in one; L ids whose row another id has.

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, Literal

import torch
from torch import Tensor
from typing_extensions import override

RuleName = Literal["sgd", "adagrad", "rowwise-adagrad"]
EPSILON: Final = 1e-10
"""Added to roots."""
_PART: Final = 4096
"""Rows that are moved together."""


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
        # Kept, since fresh memory costs more than the arithmetic; a part stays in a core's cache.
        self._room = torch.empty(3, _PART, width, device=device)

    @torch.no_grad()
    def step(self, weight_RD: Tensor, row_N: Tensor, bag_N: Tensor, grad_GD: Tensor) -> None:
        """Move the rows ``row_N``, each by the sum of the gradients of the bags it was in.

        No sort finds what repeats: every id claims its row, and one of them has it in the end.
        Most rows of a large table are claimed once, and read their gradient where it is.
        """
        number_N = counted(len(row_N), row_N.device)
        holder_N = self._claims_R.scatter_(0, row_N, number_N).gather(0, row_N)
        holds_N = holder_N == number_N
        loser_L = (~holds_N).nonzero()[:, 0]
        shared_L = holder_N.index_select(0, loser_L).long()
        alone_N = holds_N.index_fill(0, shared_L, value=False)
        self._move(weight_RD, alone_N.nonzero()[:, 0], (row_N, bag_N, grad_GD))
        shared_S = (holds_N & ~alone_N).nonzero()[:, 0]
        row_S, number_S = row_N.index_select(0, shared_S), number_N[: len(shared_S)]
        self._claims_R.scatter_(0, row_S, number_S)
        into_L = self._claims_R.gather(0, row_N.index_select(0, loser_L)).long()
        sums_SD = grad_GD.index_select(0, bag_N.index_select(0, shared_S))
        sums_SD.index_add_(0, into_L, grad_GD.index_select(0, bag_N.index_select(0, loser_L)))
        self._move(weight_RD, number_S, (row_S, number_S, sums_SD))

    def _move(
        self, weight_RD: Tensor, place_U: Tensor, looked_up: tuple[Tensor, Tensor, Tensor]
    ) -> None:
        """Move the rows of some ids, no two of one row, each by the gradient of its bag."""
        row_N, bag_N, grad_GD = looked_up
        for place_P in torch.split(place_U, _PART):
            row_P, bag_P = row_N.index_select(0, place_P), bag_N.index_select(0, place_P)
            way_PD, moved_PD, room_PD = self._room[:, : len(place_P)]
            torch.index_select(grad_GD, 0, bag_P, out=way_PD)
            torch.index_select(weight_RD, 0, row_P, out=moved_PD)
            self._scale(row_P, way_PD, room_PD)
            weight_RD.index_copy_(0, row_P, moved_PD.sub_(way_PD))

    def _moments(self, rows: int, width: int) -> Tensor:  # noqa: ARG002 - of others
        """What is known of each row at the start, (R, ...)."""
        return torch.zeros(rows, 0)

    def _scale(self, row_P: Tensor, grad_PD: Tensor, room_PD: Tensor) -> None:
        """Turn gradients into the ways that rows go, in place; ``room_PD`` may be written to."""
        raise NotImplementedError


class Sgd(Rule):
    """The gradient times the rate."""

    @override
    def _scale(self, row_P: Tensor, grad_PD: Tensor, room_PD: Tensor) -> None:
        grad_PD.mul_(self.rate)


class Adagrad(Rule):
    """An accumulator of squares for each number."""

    @override
    def _moments(self, rows: int, width: int) -> Tensor:
        return torch.zeros(rows, width)

    @override
    def _scale(self, row_P: Tensor, grad_PD: Tensor, room_PD: Tensor) -> None:
        torch.index_select(self.moments_R, 0, row_P, out=room_PD).addcmul_(grad_PD, grad_PD)
        self.moments_R.index_copy_(0, row_P, room_PD)
        grad_PD.div_(room_PD.sqrt_().add_(EPSILON)).mul_(self.rate)


class RowwiseAdagrad(Rule):
    """One accumulator for each row: the mean of the squares of its gradient."""

    @override
    def _moments(self, rows: int, width: int) -> Tensor:
        return torch.zeros(rows)

    @override
    def _scale(self, row_P: Tensor, grad_PD: Tensor, room_PD: Tensor) -> None:
        squares_PD, share_D = (
            torch.mul(grad_PD, grad_PD, out=room_PD),
            grad_PD.new_full(grad_PD.shape[1:], 1 / grad_PD.shape[1]),
        )
        sums_P = self.moments_R.index_select(0, row_P).addmv_(squares_PD, share_D)
        self.moments_R.index_copy_(0, row_P, sums_P)
        grad_PD.mul_((self.rate / sums_P.sqrt_().add_(EPSILON))[:, None])


RULES: Final[Mapping[RuleName, Callable[[int, int, float, torch.device], Rule]]] = {
    "sgd": Sgd,
    "adagrad": Adagrad,
    "rowwise-adagrad": RowwiseAdagrad,
}


@lru_cache(maxsize=4)
def counted(count: int, device: torch.device) -> Tensor:
    """0, 1, ..., to be read only: batches have one size, or a few."""
    return torch.arange(count, dtype=torch.int32, device=device)
