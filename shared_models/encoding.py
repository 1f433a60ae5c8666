"""The encoder as a graph: what a device makes of its window before anything leaves it."""

from typing import Any, Final

import numpy as np
import onnxruntime
import torch

from shared_models.contract.bundle import same
from shared_models.contract.errors import BundleRefused
from shared_models.contract.tensors import TensorSpec
from shared_models.graphs import to_onnx
from shared_models.method import EncoderExport

_INPUT: Final = "event_ids"
_SIZES: Final = {_INPUT: {0: "batch", 1: "length"}}


def proved_encoder(exported: EncoderExport, items: int, length: int) -> bytes:
    """``event_ids -> outputs`` as ONNX bytes, batch and window dynamic.

    Args:
        exported: the module and its outputs.
        items: V.
        length: of the uplink's window.

    Raises:
        BundleRefused: the graph does not reproduce torch.
    """
    rng, names = np.random.default_rng(0), list(exported.outputs)
    windows = [rng.integers(1, items + 1, size) for size in ((2, length), (3, length + 2), (1, 4))]
    windows[1][:, 1:] = 0
    windows[2][:] = 0
    example = {_INPUT: torch.from_numpy(windows[0])}
    graph = to_onnx(exported.encoder.eval(), example, {}, names, _SIZES)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for window in windows:
        with torch.inference_mode():
            expected = exported.encoder(torch.from_numpy(window))
        got = session.run(names, {_INPUT: window})
        if not all(same(ours, e.numpy()) for ours, e in zip(got, expected, strict=True)):
            raise BundleRefused("the encoder's graph differs from torch")
    return graph


def ports(file: str, exported: EncoderExport) -> dict[str, Any]:
    """How the manifest describes the graph."""
    outputs = [TensorSpec(name=n, shape=("batch", width)) for n, width in exported.outputs.items()]
    inputs = [TensorSpec(name=_INPUT, dtype="int64", shape=("batch", "length"))]
    return {"file": file, "inputs": inputs, "outputs": outputs}
