"""The hand-made bundle of `fakes` with a graph ``grad``, and what that computes, in numpy."""

from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shared_models.contract.arrays import arrays_to_bytes
from shared_models.contract.bundle import LEARNING_VECTOR, Bundle
from shared_models.contract.tensors import Float32Array, TensorSpec
from tests.device_client.fakes import SLOT, WIDTH, _table, build_bundle

GRAD = f"grad.{SLOT}"
PORTS = {
    "event_ids": ("int64", ("batch", "length")),
    "candidate_ids": ("int64", ("batch", "choice")),
    "labels": ("float32", ("batch", "choice")),
    "weights": ("float32", ("batch",)),
    SLOT: ("float32", (WIDTH, WIDTH)),
}
OUTPUTS = {"loss": ("float32", ()), GRAD: ("float32", (WIDTH, WIDTH))}
_KINDS = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}


def expected_gradient(feeds: dict[str, Any], head: Float32Array) -> tuple[float, Float32Array]:
    """Loss and gradient of the head, by hand."""
    mean_BW = _table()[feeds["event_ids"]].mean(1)
    items_BCW = _table()[feeds["candidate_ids"]]
    logits_BC = np.einsum("bcw,bv,vw->bc", items_BCW, mean_BW, head)
    labels_BC, share_B = feeds["labels"], feeds["weights"] / feeds["weights"].sum()
    losses_BC = np.logaddexp(0, logits_BC) - labels_BC * logits_BC
    wrong_BC = (1 / (1 + np.exp(-logits_BC)) - labels_BC) / labels_BC.shape[1]
    gradient = np.einsum("b,bc,bcw,bv->vw", share_B, wrong_BC, items_BCW, mean_BW)
    return float(losses_BC.mean(1) @ share_B), gradient.astype(np.float32)


@cache
def _grad_graph() -> bytes:
    def ports(about: dict[str, tuple[str, tuple[int | str, ...]]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, _KINDS[d], s) for n, (d, s) in about.items()]

    def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op, inputs.split(), [output], **attributes)

    nodes = [
        node("Gather", "table event_ids", "events"),
        node("ReduceMean", "events axis_1", "mean", keepdims=1),
        node("Gather", "table candidate_ids", "items"),
        node("MatMul", f"mean {SLOT}", "state"),
        node("Transpose", "state", "column", perm=[0, 2, 1]),
        node("MatMul", "items column", "deep"),
        node("Squeeze", "deep axis_2", "logits"),
        node("ReduceSum", "weights", "weight", keepdims=0),
        node("Div", "weights weight", "flat_share"),
        node("Unsqueeze", "flat_share axis_1", "share"),
        node("Softplus", "logits", "positive"),
        node("Mul", "labels logits", "explained"),
        node("Sub", "positive explained", "losses"),
        node("ReduceMean", "losses axis_1", "row_losses", keepdims=1),
        node("Mul", "row_losses share", "shares"),
        node("ReduceSum", "shares", "loss", keepdims=0),
        node("Sigmoid", "logits", "chances"),
        node("Sub", "chances labels", "wrong"),
        node("Mul", "wrong share", "wrong_share"),
        node("Unsqueeze", "wrong_share axis_2", "deep_wrong"),
        node("Mul", "deep_wrong items", "pulled"),
        node("ReduceMean", "pulled axis_1", "pull", keepdims=1),
        node("Transpose", "mean", "mean_column", perm=[0, 2, 1]),
        node("MatMul", "mean_column pull", "gradients"),
        node("ReduceSum", "gradients axis_0", GRAD, keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(_table(), "table"),
        *(numpy_helper.from_array(np.array([axis]), f"axis_{axis}") for axis in range(3)),
    ]
    graph = helper.make_graph(nodes, "grad", ports(PORTS), ports(OUTPUTS), constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def learning_vector(**changed: Any) -> dict[str, Any]:
    feeds = {
        "event_ids": np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]]),
        "candidate_ids": np.array([[4, 5, 6], [7, 8, 9]]),
        "labels": np.array([[1, 0, 0], [0, 1, 0]], np.float32),
        "weights": np.array([1, 0.5], np.float32),
        SLOT: np.eye(WIDTH, dtype=np.float32),
    }
    loss, gradient = expected_gradient(feeds, feeds[SLOT])
    return {**feeds, "loss": np.float32(loss), GRAD: gradient, **changed}


def build_learning_bundle(
    *,
    vector: dict[str, Any] | None = None,
    graph: bytes | None = None,
    manifest: dict[str, Any] | None = None,
    **learning: Any,
) -> Bundle:
    """A bundle without an uplink that learns by ``learning``, fields of `LearningSpec`."""
    plain = build_bundle(uplink=None, **manifest or {})
    about = plain.manifest.model_dump(mode="json")
    about.pop("files")
    about["learning"] = {"rate": 0.05, "rows": 3, "negatives": 2, **learning}
    about["graphs"]["grad"] = {
        "file": "grad.onnx",
        "inputs": [TensorSpec(name=n, dtype=d, shape=s) for n, (d, s) in PORTS.items()],
        "outputs": [TensorSpec(name=n, dtype=d, shape=s) for n, (d, s) in OUTPUTS.items()],
    }
    files = {
        **plain.files,
        "grad.onnx": graph or _grad_graph(),
        LEARNING_VECTOR: arrays_to_bytes(learning_vector() if vector is None else vector),
    }
    return Bundle.make(about, files)
