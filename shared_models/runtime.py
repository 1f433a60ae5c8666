"""onnxruntime, as devices and who proves bundles for them run it. Its errors become ours here."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from shared_models.contract.errors import BadSetting, BundleRefused
from shared_models.contract.manifest import GraphSpec
from shared_models.contract.tensors import Dim, Float32Array

CPU: Final = ("CPUExecutionProvider",)
_ERRORS_ONLY: Final = 3
_DTYPES: Final = {"tensor(float)": "float32", "tensor(int64)": "int64"}
# onnxruntime has no base class for its errors; a ValueError is of inputs that were left out.
_ERRORS: Final = (
    ValueError,
    ort.EPFail,
    ort.Fail,
    ort.InvalidArgument,
    ort.InvalidGraph,
    ort.InvalidProtobuf,
    ort.NotImplemented,
    ort.RuntimeException,
)
_Port = tuple[str, str, tuple[Dim, ...]]


class Graph:
    """A loaded ONNX graph.

    Attributes:
        provider: the execution provider that is really in use.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self.provider: str = session.get_providers()[0]

    def run(self, output: str, feeds: Mapping[str, np.ndarray[Any, Any]]) -> Float32Array:
        """One output for inputs by name.

        Raises:
            BundleRefused: the graph does not run on them.
        """
        return self.run_all([output], feeds)[0]

    def run_all(
        self, outputs: Sequence[str], feeds: Mapping[str, np.ndarray[Any, Any]]
    ) -> list[Float32Array]:
        """Some outputs, in this order.

        Raises:
            BundleRefused: the graph does not run on them.
        """
        with _translated():
            results: list[Float32Array] = self._session.run(list(outputs), feeds)
        return results

    def check_ports(self, spec: GraphSpec) -> None:
        """Compare names, types and constant sizes with what the manifest promises.

        Raises:
            BundleRefused: they differ.
        """
        declared = {_port(p.name, p.dtype, p.shape) for p in (*spec.inputs, *spec.outputs)}
        nodes = (*self._session.get_inputs(), *self._session.get_outputs())
        present = {_port(n.name, _DTYPES.get(n.type, n.type), n.shape) for n in nodes}
        if declared != present:
            differing = sorted({port[0] for port in declared ^ present})
            raise BundleRefused(f"graph and manifest differ in {', '.join(differing)}")


def load_session(graph: bytes, providers: Sequence[str]) -> Graph:
    """Load ``graph`` with one thread that sleeps while it has nothing to do.

    Raises:
        BadSetting: an execution provider that this onnxruntime does not have.
        BundleRefused: onnxruntime cannot load the graph.
    """
    missing = set(providers) - set(onnxruntime.get_available_providers())
    if missing:
        known = ", ".join(onnxruntime.get_available_providers())
        raise BadSetting("device.providers", f"no {', '.join(sorted(missing))} here, only {known}")
    with _translated():
        session = onnxruntime.InferenceSession(graph, _options(), providers=list(providers))
    return Graph(session)


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    # The arena keeps 11 MB for nothing that can be measured on graphs of this size.
    options.enable_cpu_mem_arena = False
    return options


def _port(name: str, dtype: str, shape: Sequence[Dim]) -> _Port:
    """A port without the names of its sizes, which exporters choose as they like."""
    return name, dtype, tuple(size if isinstance(size, int) else "" for size in shape)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise BundleRefused(f"onnxruntime: {str(error).splitlines()[0]}") from error
