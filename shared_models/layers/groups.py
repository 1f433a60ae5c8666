"""Rows that fall into groups, each of which goes another way."""

# Shapes: B rows, R rows of one group.

from collections.abc import Callable

import torch
from torch import Tensor


def by_group(groups_B: Tensor, run: Callable[[int, Tensor], Tensor]) -> Tensor:
    """What each group's rows come to, in the order of all rows: one pass for each group present.

    Args:
        groups_B: int64.
        run: from a group and the numbers (R,) of its rows to values (R, ...).
    """
    numbers, parts = [], []
    for group in sorted(set(groups_B.tolist())):
        rows_R = (groups_B == group).nonzero().squeeze(1)
        parts.append(run(group, rows_R))
        numbers.append(rows_R)
    return torch.cat(parts)[torch.cat(numbers).argsort()]
