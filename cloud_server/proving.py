"""A bundle is proved before it is announced, as a device will prove it before it is run."""

from typing import Any, Final

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from shared_models.contract.arrays import Arrays
from shared_models.contract.bundle import LEARNING_VECTOR, TEST_VECTOR, Bundle, same
from shared_models.contract.errors import BundleRefused
from shared_models.contract.manifest import GraphSpec, Task

_MAIN: Final = {Task.RANKING: "scorer", Task.NODE_CLASSIFICATION: "classifier"}
_LEARNING: Final = "grad"
_ERRORS_ONLY: Final = 3
# onnxruntime has no base class for its errors.
_ERRORS: Final = (
    ort.EPFail,
    ort.Fail,
    ort.InvalidArgument,
    ort.InvalidGraph,
    ort.InvalidProtobuf,
    ort.NotImplemented,
    ort.RuntimeException,
)


def prove(bundle: Bundle) -> None:
    """Load every graph of ``bundle``, and see its test vectors come out.

    Raises:
        BundleCorrupt: a file cannot be read.
        BundleRefused: it would not work on a device.
    """
    graphs = bundle.manifest.graphs
    main = _MAIN[bundle.manifest.task]
    if main not in graphs:
        raise BundleRefused(f"bundle {bundle.id[:12]} has no graph {main!r}")
    bundle.check_defaults()
    vectors = {main: bundle.test_vector if TEST_VECTOR in bundle.files else {}}
    if _LEARNING in graphs:
        held = LEARNING_VECTOR in bundle.files
        vectors[_LEARNING] = bundle.learning_vector if held else {}
    for name, spec in graphs.items():
        try:
            session = onnxruntime.InferenceSession(bundle.graph(name), _options())
            if name in vectors:
                _compare(session, spec, vectors[name])
        except _ERRORS as error:
            raise BundleRefused(f"graph {name!r}: {str(error).splitlines()[0]}") from error


def _compare(session: onnxruntime.InferenceSession, spec: GraphSpec, vector: Arrays) -> None:
    names = [port.name for port in (*spec.inputs, *spec.outputs)]
    if set(vector) != set(names):
        raise BundleRefused(f"a test vector holds {sorted(vector)}, the manifest names {names}")
    feeds = {port.name: vector[port.name] for port in spec.inputs}
    outputs = [port.name for port in spec.outputs]
    got: list[np.ndarray[Any, Any]] = session.run(outputs, feeds)
    for name, value in zip(outputs, got, strict=True):
        if not same(value, vector[name]):
            raise BundleRefused(f"its test vector does not come out: {name!r} differs")


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    return options
