"""Processes that train one model: each has some of the tables, and a slice of every batch.

As in DLRM (arXiv:1906.00091, section 3): a process looks its tables up for the whole batch, and an
all-to-all exchange turns that into all tables for its own slice. Torch does the exchange, and takes
gradients the same way back.
"""

# Shapes: B rows of the batch, S rows of the own slice, T categories, O of them the own, D width.

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from typing import Self

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn import functional
from torch.nn.parallel import DistributedDataParallel


def shares(count: int, parts: int) -> list[int]:
    """``count`` things for ``parts`` parties, as evenly as it goes: the first ones have more."""
    return [count // parts + (part < count % parts) for part in range(parts)]


@dataclass(frozen=True, slots=True)
class Team:
    """Who this process is among ``size``, and what it has in common with the others."""

    rank: int = 0
    size: int = 1

    @classmethod
    @contextmanager
    def joined(cls, device: torch.device, patience_s: float) -> Iterator[Self]:
        """The team that torch's launcher told this process of; gloo, or nccl where GPUs are."""
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", timeout=timedelta(seconds=patience_s)
        )
        try:
            yield cls(distributed.get_rank(), distributed.get_world_size())
        finally:
            distributed.destroy_process_group()

    def own(self, count: int) -> range:
        """The part of ``count`` things that is this process's own."""
        ends = [0, *accumulate(shares(count, self.size))]
        return range(ends[self.rank], ends[self.rank + 1])

    def together(self, network: nn.Module) -> nn.Module:
        """``network``, whose gradients are the means over all processes."""
        return network if self.size == 1 else DistributedDataParallel(network)

    def exchanged(self, vectors_BOD: Tensor, categories: int) -> Tensor:
        """From own tables' vectors of all rows to all tables' vectors of own rows (S, T, D).

        Gradients that come back are of the sum of all processes' losses over their number, as
        those are that `together` gives.
        """
        if self.size == 1:
            return vectors_BOD
        rows, tables = shares(len(vectors_BOD), self.size), shares(categories, self.size)
        width, slice_ = vectors_BOD.shape[2], rows[self.rank]
        sent = [count * tables[self.rank] * width for count in rows]
        received = [slice_ * count * width for count in tables]
        room = vectors_BOD.new_empty(sum(received))
        flat: Tensor = functional.all_to_all_single(room, vectors_BOD.flatten(), received, sent)  # type: ignore[no-untyped-call]
        parts = torch.split(flat, received)
        vectors_STD = torch.cat(
            [part.view(slice_, n, width) for part, n in zip(parts, tables, strict=True)], dim=1
        )
        if vectors_STD.requires_grad:
            vectors_STD.register_hook(lambda grad: grad / self.size)  # type: ignore[no-untyped-call]
        return vectors_STD

    def mean(self, value: Tensor) -> float:
        """Of all processes' values."""
        if self.size > 1:
            value = value.clone()
            distributed.all_reduce(value)
        return float(value) / self.size

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            distributed.barrier()
