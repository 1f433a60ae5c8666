"""The graph ``grad``: loss and gradients of the slots, for devices that learn without torch.

The one route that keeps every size dynamic was measured: `torch.autograd.grad` traced by `make_fx`
into plain operators. Only what the slots touch is traced; the rest is the scorer's own forward.
Adam is no part of it: its scalars need float64, and the exporter drops constants as small as its
epsilon.
"""

# Shapes: B rows, T events in the window, C candidates.

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import onnxruntime
import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional
from typing_extensions import override

from shared_models.contract.arrays import Arrays
from shared_models.contract.bundle import same
from shared_models.contract.errors import BundleRefused
from shared_models.contract.features import FeatureSpec
from shared_models.contract.tensors import TensorSpec
from shared_models.graphs import PROBES, probe, to_onnx
from shared_models.method import LearnerExport, ScorerExport

_ROWS, _CHOICE = 6, 3
"""Sizes of the traced example: at least 2, and unlike each other."""
_DROPPED: Final = 1e-8
"""The exporter takes constants up to this for zero."""
_SIZES: Final = {
    "event_ids": {0: "batch", 1: "length"},
    "candidate_ids": {0: "batch", 1: "choice"},
    "labels": {0: "batch", 1: "choice"},
    "weights": {0: "batch"},
}


def weighted_loss(logits_BC: Tensor, labels_BC: Tensor, weights_B: Tensor) -> Tensor:
    """Binary cross-entropy, the mean over candidates and the weighted mean over rows."""
    # torch's own form is exported as the log of a sigmoid, which is infinite from -104 on.
    losses_BC = functional.softplus(logits_BC) - labels_BC * logits_BC
    return (losses_BC.mean(1) * weights_B).sum() / weights_B.sum()


def proved_gradient(exported: ScorerExport, learner: LearnerExport, features: FeatureSpec) -> bytes:
    """``(event_ids, candidate_ids, labels, weights, *slots) -> (loss, grad.<slot>, ...)`` as ONNX.

    Raises:
        BundleRefused: it does not reproduce torch, or holds a constant that the exporter drops.
    """
    example = {
        "event_ids": torch.ones(_ROWS, features.window, dtype=torch.int64),
        "candidate_ids": torch.ones(_ROWS, _CHOICE, dtype=torch.int64),
        "labels": torch.zeros(_ROWS, _CHOICE),
        "weights": torch.ones(_ROWS),
    }
    slots = {name: value.detach() for name, value in exported.slots.items()}
    with torch.no_grad():
        read = tuple(learner.frozen(example["event_ids"], example["candidate_ids"]))
    backward = _traced(learner, slots, read, (example["labels"], example["weights"]))
    module = _Gradient(learner.frozen, backward).eval()
    graph = to_onnx(module, example, slots, _outputs(slots), _SIZES)
    _prove(graph, exported, features)
    return graph


def learning_vector(exported: ScorerExport, features: FeatureSpec) -> dict[str, Any]:
    """Inputs of the graph and what torch computes for them; devices check themselves by it."""
    size = (2, features.window, features.window - 1, 7)
    feeds = _feeds(exported, features, size)
    return {**feeds, **_torch_gradients(exported, feeds)}


def ports(file: str, slots: Sequence[TensorSpec]) -> dict[str, Any]:
    """The graph's entry in the manifest."""
    inputs = (("event_ids", "int64"), ("candidate_ids", "int64"), ("labels", "float32"))
    return {
        "file": file,
        "inputs": [
            *(TensorSpec(name=n, dtype=d, shape=tuple(_SIZES[n].values())) for n, d in inputs),
            TensorSpec(name="weights", shape=("batch",)),
            *slots,
        ],
        "outputs": [
            TensorSpec(name="loss", shape=()),
            *(TensorSpec(name=f"grad.{slot.name}", shape=slot.shape) for slot in slots),
        ],
    }


class _Gradient(nn.Module):
    def __init__(self, frozen: nn.Module, backward: fx.GraphModule) -> None:
        super().__init__()
        self.frozen, self.backward = frozen, backward

    @override
    def forward(
        self,
        event_ids_BT: Tensor,
        candidate_ids_BC: Tensor,
        labels_BC: Tensor,
        weights_B: Tensor,
        *slots: Tensor,
    ) -> tuple[Tensor, ...]:
        read = self.frozen(event_ids_BT, candidate_ids_BC)
        results: tuple[Tensor, ...] = self.backward(labels_BC, weights_B, *read, *slots)
        return results


def _traced(
    learner: LearnerExport,
    slots: Mapping[str, Tensor],
    read: Sequence[Tensor],
    targets: tuple[Tensor, Tensor],
) -> fx.GraphModule:
    """Loss and gradients as plain operators over (labels, weights, *read, *slots)."""

    def gradients(labels_BC: Tensor, weights_B: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            leaves = [value.detach().requires_grad_() for value in rest[len(read) :]]
            logits_BC = learner.tail(rest[: len(read)], dict(zip(slots, leaves, strict=True)))
            loss = weighted_loss(logits_BC, labels_BC, weights_B)
            return loss.detach(), *torch.autograd.grad(loss, leaves)

    trace = make_fx(gradients, tracing_mode="symbolic", _allow_non_fake_inputs=True)
    traced = trace(*targets, *read, *slots.values())
    _refuse_tiny_constants(traced)
    return traced


def _refuse_tiny_constants(traced: fx.GraphModule) -> None:
    arguments = chain.from_iterable((*n.args, *n.kwargs.values()) for n in traced.graph.nodes)
    tiny = [a for a in arguments if isinstance(a, float) and 0 < abs(a) <= _DROPPED]
    if tiny:
        raise BundleRefused(f"the gradient has constants that the exporter drops: {tiny}")


def _prove(graph: bytes, exported: ScorerExport, features: FeatureSpec) -> None:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for size in PROBES:
        feeds = _feeds(exported, features, size)
        expected = _torch_gradients(exported, feeds)
        got = session.run(list(expected), feeds)
        for name, array in zip(expected, got, strict=True):
            if not same(array, expected[name]):
                raise BundleRefused(f"{name} differs from torch for (rows, T, known, C) = {size}")


def _feeds(
    exported: ScorerExport, features: FeatureSpec, size: tuple[int, int, int, int]
) -> dict[str, Any]:
    """Inputs of the graph; the first candidate is taken, and with many rows the last is padding."""
    rows, *_, choice = size
    labels_BC = np.zeros((rows, choice), np.float32)
    labels_BC[:, 0] = 1
    weights_B = np.ones(rows, np.float32)
    weights_B[2:] = 0.5
    weights_B[rows - 1 :] = rows == 1
    return {
        **probe(features, exported.slots, size),
        "labels": labels_BC,
        "weights": weights_B,
    }


def _torch_gradients(exported: ScorerExport, feeds: Arrays) -> dict[str, Any]:
    """By autograd through the whole scorer, so that the cut is proved as well."""
    tensors = {name: torch.from_numpy(feed) for name, feed in feeds.items()}
    slots = {name: tensors[name].requires_grad_() for name in exported.slots}
    with torch.enable_grad():
        logits_BC = exported.scorer(tensors["event_ids"], tensors["candidate_ids"], *slots.values())
        loss = weighted_loss(logits_BC, tensors["labels"], tensors["weights"])
        values = loss, *torch.autograd.grad(loss, list(slots.values()))
    return dict(zip(_outputs(slots), (v.detach().numpy() for v in values), strict=True))


def _outputs(slots: Mapping[str, Tensor]) -> list[str]:
    return ["loss", *(f"grad.{name}" for name in slots)]
