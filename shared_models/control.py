"""The controller as a graph: what a device asks whether to ask."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import onnxruntime
import torch
from torch import nn

from shared_models.contract.bundle import same
from shared_models.contract.errors import BundleRefused
from shared_models.contract.tensors import Int64Array, TensorSpec
from shared_models.graphs import to_onnx
from shared_models.method import ControllerExport

OUTPUTS: Final = ("change", "gain")
_INPUTS: Final = ("event_ids", "refreshed_ids")
_SIZES: Final = {name: {0: "batch", 1: "length"} for name in _INPUTS}

Calibration = Mapping[str, tuple[float, ...]]
"""By output of a controller (`OUTPUTS`), its thresholds for 1 %, 2 %, ... of the rankings."""
Calibrate = Callable[[nn.Module], Calibration]


def proved_controller(exported: ControllerExport, items: int, length: int) -> bytes:
    """The controller as ONNX bytes, batch and window dynamic.

    Args:
        exported: what the method hands over.
        items: V.
        length: of the uplink's window, G.

    Raises:
        BundleRefused: the graph does not reproduce torch.
    """
    probes = [
        _windows(items, *size) for size in ((2, 1, length + 1), (3, length, length), (1, 0, length))
    ]
    example = {name: torch.from_numpy(ids) for name, ids in probes[0].items()}
    controller, outputs = exported.controller.eval(), [*OUTPUTS, *exported.more]
    graph = to_onnx(controller, example, {}, outputs, _SIZES)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for feeds in probes:
        with torch.inference_mode():
            expected = controller(*map(torch.from_numpy, feeds.values()))
        got = session.run(outputs, feeds)
        if not all(same(ours, e.numpy()) for ours, e in zip(got, expected, strict=True)):
            raise BundleRefused("the controller's graph differs from torch")
    return graph


def ports(file: str, exported: ControllerExport) -> dict[str, Any]:
    """How the manifest describes the graph."""
    windows = [TensorSpec(name=name, dtype="int64", shape=("batch", "length")) for name in _INPUTS]
    sizes = {**dict.fromkeys(OUTPUTS, 0), **exported.more}
    outputs = [
        TensorSpec(name=name, shape=("batch", width) if width else ("batch",))
        for name, width in sizes.items()
    ]
    return {"file": file, "inputs": windows, "outputs": outputs}


def _windows(items: int, rows: int, known: int, length: int) -> dict[str, Int64Array]:
    """Right-padded windows that overlap, as a device has them now and had at its last refresh."""
    drawn = np.random.default_rng(rows).integers(1, items + 1, (rows, known + 1))
    now, then = (np.zeros((rows, length), np.int64) for _ in range(2))
    now[:, :known], then[:, :known] = drawn[:, 1:], drawn[:, :-1]
    return dict(zip(_INPUTS, (now, then), strict=True))
