"""How fast a torch device trains DUET and writes overlays, and what it could do at most."""

# Shapes: B rows, G events in the uplink, H history, C candidates.

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cloud_server.recipe import TrainSettings
from shared_models.catalog import load_method, resolve
from shared_models.contract.tensors import Int64Array
from shared_models.method import Batch, Uplinks

ITEMS = 1682
"""Of MovieLens-100K."""
_FLOAT = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device reaches in work that is nothing but operations, or nothing but bytes."""

    operations: float
    bytes: float

    def least_seconds(self, work: "Work") -> float:
        """No implementation of ``work`` can be faster."""
        return max(work.operations / self.operations, work.bytes / self.bytes)


@dataclass(frozen=True, slots=True)
class Work:
    """What cannot be avoided.

    Attributes:
        operations: multiplications and additions of matrix products.
        bytes: read once or written once: parameters, inputs and results, nothing in between.
    """

    operations: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Speed:
    """A measured rate.

    Attributes:
        rows: overlays, or training rows, a second.
        share: of what `Limits` allow.
    """

    rows: float
    share: float


def duet(dropout: float = 0.2) -> Any:
    """SASRec DUET, settings as by default; without dropout its chance is the same everywhere."""
    settings = {"trunk": {"dropout": dropout}}
    return load_method("duet", resolve("duet", ITEMS, "sasrec", settings))


def limits(device: torch.device, size: int = 8192) -> Limits:
    """By a product of square matrices, and a copy of such a matrix; float32 as the models are."""
    left, right = (torch.rand(size, size, device=device) for _ in range(2))
    product, copy = torch.empty_like(left), torch.empty_like(left)
    multiplying = seconds_of(lambda: torch.mm(left, right, out=product), device)
    copying = seconds_of(lambda: copy.copy_(left), device)
    return Limits(2 * size**3 / multiplying, 2 * _FLOAT * size**2 / copying)


def generator_speed(
    method: Any, model: nn.Module, device: torch.device, rows: int, limit: Limits
) -> Speed:
    """Overlays a second, from item ids on the host to arrays on the host, ``rows`` at a time."""
    uplinks_BG = uplinks(method, rows)
    work = generator_work(method, rows)
    seconds = seconds_of(lambda: method.personalize(model, Uplinks(uplinks_BG)), device)
    return Speed(rows / seconds, limit.least_seconds(work) / seconds)


def training_speed(method: Any, device: torch.device, rows: int, limit: Limits) -> Speed:
    """Rows a second of the joint stage: loss, gradients and Adam, batches already there."""
    step, _ = training(method, device, rows)
    seconds = seconds_of(step, device)
    return Speed(rows / seconds, limit.least_seconds(training_work(method, rows)) / seconds)


def generator_work(method: Any, rows: int) -> Work:
    """Of writing ``rows`` overlays."""
    model, uplinks_BG = method.build(0).eval(), uplinks(method, rows)
    # Not through `personalize`: the counter does not bear its inference mode.
    operations = _operations(lambda: model.slots(model.code(torch.from_numpy(uplinks_BG))))
    written = sum(
        values.nbytes for values in method.personalize(model, Uplinks(uplinks_BG)).slots.values()
    )
    own = (*model.encoder.parameters(), *model.writer.parameters())
    rows_read = uplinks_BG.size * method.config.trunk.width * _FLOAT
    return Work(operations, _bytes(own) + uplinks_BG.nbytes + rows_read + written)


def training_work(method: Any, rows: int) -> Work:
    """Of a training step on ``rows`` rows; Adam reads four numbers a parameter and writes three."""
    step, model = training(method, torch.device("cpu"), rows)
    parameters = _bytes(tuple(model.parameters()))
    batch = batch_of(method, torch.device("cpu"), rows)
    ids = batch.history_BH.nbytes + batch.candidates_BC.nbytes + batch.labels_BC.nbytes
    return Work(_operations(step), 7 * parameters + ids)


def training(
    method: Any, device: torch.device, rows: int
) -> tuple[Callable[[], Tensor], nn.Module]:
    """A step of the joint stage on the same batch again and again, giving its loss."""
    stage, model = method.stages()[0], method.build(0).to(device).train()
    parameters = list(stage.trainable(model))
    optimiser = torch.optim.Adam(parameters, lr=TrainSettings().learning_rate)
    batch, rng = batch_of(method, device, rows), torch.Generator().manual_seed(0)

    def step() -> Tensor:
        loss: Tensor = stage.loss(model, batch, rng)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.detach()

    return step, model


def batch_of(method: Any, device: torch.device, rows: int) -> Batch:
    """Random ids; one positive beside the recipe's negatives."""
    rng, wide = np.random.default_rng(0), 1 + TrainSettings().negatives
    history_BH = rng.integers(1, ITEMS + 1, (rows, method.config.history))
    candidates_BC = rng.integers(1, ITEMS + 1, (rows, wide))
    labels_BC = np.zeros((rows, wide), np.float32)
    labels_BC[:, 0] = 1
    arrays = (history_BH, candidates_BC, labels_BC)
    return Batch(*(torch.from_numpy(array).to(device) for array in arrays))


def uplinks(method: Any, rows: int) -> Int64Array:
    """Random item ids (B, G)."""
    wide = method.config.generator_window
    return np.random.default_rng(1).integers(1, ITEMS + 1, (rows, wide))


def seconds_of(work: Callable[[], object], device: torch.device, most: float = 1.0) -> float:
    """Of one call: the median over at most ``most`` seconds, after three that warm up."""
    for _ in range(3):
        work()
    seconds: list[float] = []
    while sum(seconds) < most and len(seconds) < 100:
        _finish(device)
        start = time.perf_counter()
        work()
        _finish(device)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _finish(device: torch.device) -> None:
    """Wait for what was only queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _operations(work: Callable[[], object]) -> float:
    """Counted on the CPU, where torch takes its recurrent layers apart into products."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _bytes(tensors: tuple[Tensor, ...]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
