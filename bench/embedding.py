"""A training step of embedding tables, beside the layers that torch has for it.

    python -m bench.embedding

26 tables of 20,000 rows of 16 numbers, a batch of 2,048 rows with one id in each table, one thread.
Both sides look up, go back with the same gradient and move the rows: ours by row-wise Adagrad in
the backward pass, the peer's ``ModuleList(EmbeddingBag(sparse=True))`` by ``torch.optim.Adagrad``.
(The rules differ: Adagrad keeps an accumulator for each number, the row-wise one for each row.)
Time is that of the processor, so that what else runs counts little. Rounds take turns, the median
counts, and the exit code is 1 where the target is missed.
"""

import platform
import sys
import time
from collections.abc import Callable
from typing import Final

import torch
from torch import nn

from bench.ratios import Ratio, judged, taking_turns
from shared_models.layers.rules import RowwiseAdagrad
from shared_models.layers.tables import Bags, Tables

TABLES: Final = 26
ROWS: Final = 20_000
WIDTH: Final = 16
BATCH: Final = 2048
STEPS: Final = 5
RATIO: Final = Ratio("embedding", "ours / torch's layers, steps a second", target=4, rounds=15)


def ours(ids_BT: torch.Tensor, grad_BTD: torch.Tensor) -> Callable[[], None]:
    tables = Tables([ROWS] * TABLES, WIDTH)
    rule, bags = RowwiseAdagrad(ROWS * TABLES, WIDTH), Bags.single(ids_BT)
    return lambda: tables.trained(bags, rule).backward(grad_BTD)


def torchs(ids_BT: torch.Tensor, grad_BTD: torch.Tensor) -> Callable[[], None]:
    tables = nn.ModuleList(
        nn.EmbeddingBag(ROWS, WIDTH, mode="sum", sparse=True) for _ in range(TABLES)
    )
    optimiser = torch.optim.Adagrad(tables.parameters())
    start_B, ids_TB = torch.arange(BATCH), ids_BT.t().contiguous()

    def step() -> None:
        optimiser.zero_grad()
        sums = [table(ids_B, start_B) for table, ids_B in zip(tables, ids_TB, strict=True)]
        torch.stack(sums, 1).backward(grad_BTD)
        optimiser.step()

    return step


def rate(step: Callable[[], None]) -> float:
    """Steps a second, of steps that follow their own kind: the first finds the other's memory."""
    step()
    start = time.process_time()
    for _ in range(STEPS):
        step()
    return STEPS / (time.process_time() - start)


def main() -> int:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.sparse.check_sparse_tensor_invariants.disable()
    print(f"Python {platform.python_version()}, torch {torch.__version__}, one thread")
    ids_BT = torch.randint(0, ROWS, (BATCH, TABLES))
    grad_BTD = torch.randn(BATCH, TABLES, WIDTH)
    sides = ours(ids_BT, grad_BTD), torchs(ids_BT, grad_BTD)
    play = taking_turns(*((lambda step=step: rate(step)) for step in sides))
    play(0)
    verdict = judged(RATIO, play)
    print(verdict)
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
