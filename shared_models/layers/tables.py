"""Embedding tables of one width that are looked up together, and trained as they are looked up.

After DLRM (Naumov et al., arXiv:1906.00091), whose tables are a layer each. Here they are one
weight: a step costs one pass over the rows that a batch touched, whatever the number of tables.
"""

# Shapes: T tables, R rows of all tables, D width, B rows of the batch, N ids of all bags,
# L ids of a padded bag.

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from shared_models.layers.rules import Rule


@dataclass(frozen=True, slots=True)
class Bags:
    """Ids to look up: for each table in turn, a bag for each row of the batch.

    Attributes:
        ids_N: int64, numbers of rows within their tables, one bag after the other.
        sizes_TB: int64, ids in each bag; a bag may be empty. None: one in each.
        tables: T.
    """

    ids_N: Tensor
    sizes_TB: Tensor | None
    tables: int

    @classmethod
    def single(cls, ids_BT: Tensor) -> "Bags":
        """Bags of one id each: int64 (B, T)."""
        return cls(ids_BT.t().reshape(-1), None, ids_BT.shape[1])

    @classmethod
    def of(cls, bags: Sequence[Sequence[Sequence[int]]]) -> "Bags":
        """For each table the ids of each row."""
        sizes = [[len(bag) for bag in table] for table in bags]
        ids = [number for table in bags for bag in table for number in bag]
        return cls(torch.tensor(ids, dtype=torch.int64), torch.tensor(sizes), len(bags))

    @classmethod
    def padded(cls, ids: Sequence[Tensor]) -> "Bags":
        """For each table int64 (B, L); what is below 0 is padding."""
        known = [ids_BL >= 0 for ids_BL in ids]
        chosen = [ids_BL[known_BL] for ids_BL, known_BL in zip(ids, known, strict=True)]
        return cls(torch.cat(chosen), torch.stack([each.sum(1) for each in known]), len(ids))

    @property
    def sizes(self) -> Tensor:
        """Ids in each bag, int64 (T, B)."""
        if self.sizes_TB is not None:
            return self.sizes_TB
        return torch.ones(
            self.tables, len(self.ids_N) // self.tables, dtype=torch.int64, device=self.ids_N.device
        )

    @property
    def starts(self) -> Tensor:
        """Where each bag begins, int64 (T * B,)."""
        if self.sizes_TB is None:
            return torch.arange(len(self.ids_N), device=self.ids_N.device)
        return self.sizes_TB.flatten().cumsum(0) - self.sizes_TB.flatten()

    @property
    def by_table(self) -> Sequence[Tensor]:
        """The ids of each table."""
        return torch.split(self.ids_N, self.sizes.sum(1).tolist())

    def chosen(self, places: Sequence[tuple[int, Callable[[Tensor], Tensor]]]) -> "Bags":
        """Bags of some of the tables, each with what a function makes of its ids."""
        ids, sizes_TB = self.by_table, self.sizes_TB
        which = [table for table, _ in places]
        chosen = torch.cat([make(ids[table]) for table, make in places])
        return Bags(chosen, None if sizes_TB is None else sizes_TB[which], len(which))

    def to(self, device: torch.device) -> "Bags":
        """The same ones there."""
        sizes_TB = self.sizes_TB if self.sizes_TB is None else self.sizes_TB.to(device)
        return Bags(self.ids_N.to(device), sizes_TB, self.tables)


class Tables(nn.Module):
    """Sums of the rows in bags; rows begin uniform in +-sqrt(1 / rows of their table).

    Args:
        rows: of each table.
        width: D.
    """

    first_T: Tensor
    rows_T: Tensor

    def __init__(self, rows: Sequence[int], width: int) -> None:
        super().__init__()
        self.rows, self.width = tuple(rows), width
        self.first = (0, *accumulate(rows))[:-1]
        self.register_buffer("first_T", torch.tensor(self.first), persistent=False)
        self.register_buffer("rows_T", torch.tensor(self.rows), persistent=False)
        parts = [torch.empty(count, width).uniform_(-1, 1) / count**0.5 for count in rows]
        self.weight = nn.Parameter(torch.cat(parts))

    @override
    def forward(self, bags: Bags) -> Tensor:
        """The sums, float32 (B, T, D); an empty bag's is zero."""
        return _sums(self.weight, self.placed(bags), bags)

    def trained(self, bags: Bags, rule: Rule) -> Tensor:
        """As `forward`; the backward pass moves the rows that were looked up, by ``rule``.

        The weight itself gets no gradient, and no optimiser is to be told of it.
        """
        sums_BTD: Tensor = _Trained.apply(self.weight, self.placed(bags), bags, rule)  # type: ignore[no-untyped-call]
        return sums_BTD

    def of_table(self, whole_R: Tensor, table: int) -> Tensor:
        """The part of something by row that is of one table; a view."""
        return whole_R.narrow(0, self.first[table], self.rows[table])

    def placed(self, bags: Bags) -> Tensor:
        """Each id's row in the common weight (N,).

        Raises:
            IndexError: an id is not in its table.
        """
        if bags.sizes_TB is None:
            ids_TB = bags.ids_N.view(bags.tables, -1)
            if len(bags.ids_N) and not self._holds(ids_TB.amin(1), ids_TB.amax(1)):
                self._tell(bags)
            return (ids_TB + self.first_T[:, None]).flatten()
        ids = bags.by_table
        known = [each if len(each) else each.new_zeros(1) for each in ids]
        low_T, high_T = (
            torch.stack([end(each) for each in known]) for end in (torch.min, torch.max)
        )
        if not self._holds(low_T, high_T):
            self._tell(bags)
        return torch.cat([each + first for each, first in zip(ids, self.first, strict=True)])

    def _holds(self, low_T: Tensor, high_T: Tensor) -> bool:
        return not bool(((low_T < 0) | (high_T >= self.rows_T)).any())

    def _tell(self, bags: Bags) -> NoReturn:
        """Which id is wrong."""
        table, ids = next(
            (table, ids)
            for table, (ids, count) in enumerate(zip(bags.by_table, self.rows, strict=True))
            if len(ids) and (ids.min() < 0 or ids.max() >= count)
        )
        count = self.rows[table]
        wrong = int(ids[(ids < 0) | (ids >= count)][0])
        raise IndexError(f"id {wrong} is not in table {table} of {count} rows")


def _sums(weight_RD: Tensor, row_N: Tensor, bags: Bags) -> Tensor:
    if bags.sizes_TB is None:
        sums = functional.embedding(row_N, weight_RD)
    else:
        sums = functional.embedding_bag(row_N, weight_RD, bags.starts, mode="sum")
    return sums.view(bags.tables, -1, weight_RD.shape[1]).transpose(0, 1)


class _Trained(torch.autograd.Function):
    """Sums of bags, whose backward pass is the optimiser's step."""

    @staticmethod
    @override
    def forward(ctx: Any, weight_RD: Tensor, row_N: Tensor, bags: Bags, rule: Rule) -> Tensor:
        ctx.weight_RD, ctx.row_N, ctx.bags, ctx.rule = weight_RD, row_N, bags, rule
        return _sums(weight_RD, row_N, bags)

    @staticmethod
    @override
    def backward(ctx: Any, grad_BTD: Tensor) -> tuple[None, None, None, None]:
        rows, tables, width = grad_BTD.shape
        bag_N = _places(rows, tables, grad_BTD.device)
        if (sizes_TB := ctx.bags.sizes_TB) is not None:
            bag_N = bag_N.repeat_interleave(sizes_TB.flatten())
        ctx.rule.step(ctx.weight_RD, ctx.row_N, bag_N, grad_BTD.reshape(-1, width))
        return None, None, None, None


@lru_cache(maxsize=4)
def _places(rows: int, tables: int, device: torch.device) -> Tensor:
    """Where in (B, T) the bags are, table by table: int64 (T * B,), to be read only."""
    return torch.arange(rows * tables, device=device).view(rows, tables).t().reshape(-1)
