"""onnxruntime, behind one door: its errors become ours here and nowhere else."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from shared_models.contract.errors import BundleRefused, SlotMismatch

Array = np.ndarray[Any, Any]
_LOAD_ERRORS = (native.Fail, native.InvalidGraph, native.InvalidProtobuf, native.NotImplemented)


class Graph:
    """A loaded ONNX graph; one serves all virtual devices of a process."""

    def __init__(self, data: bytes, providers: Sequence[str]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        known = [name for name in providers if name in onnxruntime.get_available_providers()]
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=known)
        except _LOAD_ERRORS as error:
            raise BundleRefused(f"onnxruntime cannot load the graph: {error}") from error
        self.inputs = tuple(port.name for port in self._session.get_inputs())
        self.outputs = [port.name for port in self._session.get_outputs()]

    @property
    def provider(self) -> str:
        """The execution provider that is really in use."""
        return str(self._session.get_providers()[0])

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All outputs.

        Raises:
            SlotMismatch: an input has a wrong shape or type.
        """
        try:
            outputs: list[Array] = self._session.run(self.outputs, feeds)
        except native.InvalidArgument as error:
            raise SlotMismatch("*", "inputs as the manifest says", str(error)) from error
        return outputs
