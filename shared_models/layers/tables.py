"""Embedding tables of one width that are looked up together, and trained as they are looked up.

After DLRM (Naumov et al., arXiv:1906.00091), whose tables are a layer each. Here they are one
weight: a step costs one pass over the rows that a batch touched, whatever the number of tables.
"""

# Shapes: T tables, R rows of all tables, D width, B rows of the batch, N ids of all bags,
# U distinct rows of them.

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override


@dataclass(frozen=True, slots=True)
class Bags:
    """Ids to look up: for each table in turn, a bag for each row of the batch.

    Attributes:
        ids_N: int64, numbers of rows within their tables, one bag after the other.
        start_TB: int64 (T * B,), where each bag begins; a bag may be empty.
        tables: T.
    """

    ids_N: Tensor
    start_TB: Tensor
    tables: int

    @classmethod
    def single(cls, ids_BT: Tensor) -> "Bags":
        """Bags of one id each: int64 (B, T)."""
        start = torch.arange(ids_BT.numel(), device=ids_BT.device)
        return cls(ids_BT.t().reshape(-1), start, ids_BT.shape[1])

    @classmethod
    def of(cls, bags: Sequence[Sequence[Sequence[int]]]) -> "Bags":
        """For each table the ids of each row."""
        flat = [bag for table in bags for bag in table]
        starts = list(accumulate(map(len, flat), initial=0))[:-1]
        ids = [number for bag in flat for number in bag]
        return cls(torch.tensor(ids, dtype=torch.int64), torch.tensor(starts), len(bags))

    @property
    def sizes(self) -> Tensor:
        """Ids in each bag, int64 (T * B,)."""
        end = self.start_TB.new_tensor([len(self.ids_N)])
        return torch.diff(self.start_TB, append=end)


class Tables(nn.Module):
    """Sums of the rows in bags; rows begin uniform in +-sqrt(1 / rows of their table).

    Args:
        rows: of each table.
        width: D.
    """

    first_T: Tensor

    def __init__(self, rows: Sequence[int], width: int) -> None:
        super().__init__()
        self.rows, self.width = tuple(rows), width
        parts = [torch.empty(count, width).uniform_(-1, 1) / count**0.5 for count in rows]
        self.weight = nn.Parameter(torch.cat(parts))
        first_T = torch.tensor([0, *accumulate(rows)][:-1])
        self.register_buffer("first_T", first_T, persistent=False)

    @override
    def forward(self, bags: Bags) -> Tensor:
        """The sums, float32 (B, T, D); an empty bag's is zero."""
        sums = functional.embedding_bag(self.placed(bags), self.weight, bags.start_TB, mode="sum")
        return self._by_row(sums, bags)

    def trained(self, bags: Bags, rule: "RowwiseAdagrad") -> Tensor:
        """As `forward`; the backward pass moves the rows that were looked up, by ``rule``.

        The weight itself gets no gradient, and no optimiser is to be told of it.
        """
        sums: Tensor = _Trained.apply(self.weight, self.placed(bags), bags, rule)  # type: ignore[no-untyped-call]
        return self._by_row(sums, bags)

    def placed(self, bags: Bags) -> Tensor:
        """Each id's row in the common weight (N,).

        Raises:
            IndexError: an id is not in its table.
        """
        sizes_T = bags.sizes.view(bags.tables, -1).sum(1)
        table_N = torch.repeat_interleave(sizes_T)
        rows_T = torch.tensor(self.rows, device=bags.ids_N.device)
        outside = (bags.ids_N < 0) | (bags.ids_N >= rows_T[table_N])
        if outside.any():
            place = int(outside.nonzero()[0, 0])
            table = int(table_N[place])
            raise IndexError(
                f"id {int(bags.ids_N[place])} is not in table {table} of {self.rows[table]} rows"
            )
        return bags.ids_N + self.first_T[table_N]

    def _by_row(self, sums: Tensor, bags: Bags) -> Tensor:
        return sums.view(bags.tables, -1, self.width).transpose(0, 1)


class RowwiseAdagrad:
    """Adagrad with one accumulator for each row: the mean of the squares of its gradient.

    Args:
        rows: of the weight, R.
        rate: learning rate.
        epsilon: added to the root.
    """

    def __init__(self, rows: int, rate: float = 0.01, epsilon: float = 1e-10) -> None:
        self.rate, self.epsilon = rate, epsilon
        self.sums_R = torch.zeros(rows)

    @torch.no_grad()
    def step(self, weight_RD: Tensor, row_N: Tensor, grad_ND: Tensor) -> None:
        """Move the rows ``row_N``, each by the sum of its gradients."""
        row_U, inverse_N = torch.unique(row_N, return_inverse=True)
        grad_UD = grad_ND.new_zeros(len(row_U), grad_ND.shape[1]).index_add_(0, inverse_N, grad_ND)
        self.sums_R = self.sums_R.to(weight_RD.device)
        sums_U = self.sums_R[row_U] + grad_UD.square().mean(1)
        self.sums_R[row_U] = sums_U
        moved_UD = self.rate * grad_UD / (sums_U.sqrt() + self.epsilon)[:, None]
        weight_RD.index_copy_(0, row_U, weight_RD.index_select(0, row_U).sub_(moved_UD))


class _Trained(torch.autograd.Function):
    """Sums of bags, whose backward pass is the optimiser's step."""

    @staticmethod
    @override
    def forward(
        ctx: Any, weight_RD: Tensor, row_N: Tensor, bags: Bags, rule: RowwiseAdagrad
    ) -> Tensor:
        ctx.weight_RD, ctx.row_N, ctx.bags, ctx.rule = weight_RD, row_N, bags, rule
        return functional.embedding_bag(row_N, weight_RD, bags.start_TB, mode="sum")

    @staticmethod
    @override
    def backward(ctx: Any, grad_TBD: Tensor) -> tuple[None, None, None, None]:
        sizes = ctx.bags.sizes
        single = len(sizes) == len(ctx.row_N) and bool((sizes == 1).all())
        grad_ND = grad_TBD if single else grad_TBD.repeat_interleave(sizes, dim=0)
        ctx.rule.step(ctx.weight_RD, ctx.row_N, grad_ND)
        return None, None, None, None
