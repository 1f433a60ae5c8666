"""From a trained method to a bundle: torch to ONNX, proved in onnxruntime before it is written.

The recipe and its traps were measured: torch's dynamo exporter, every size but the slots' dynamic,
no metadata (the exporter writes stack traces of the cloud's source into each node), a full check.
"""

import inspect
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from shared_models.contract.bundle import (
    DEFAULTS,
    TEST_VECTOR,
    TOLERANCE,
    Bundle,
    arrays_to_bytes,
)
from shared_models.contract.errors import BundleRefused
from shared_models.contract.tensors import Float32Array, Int64Array, TensorSpec
from shared_models.method import Controls, Method, ScorerExport

OPSET: Final = 20
SCORER_FILE: Final = "scorer.onnx"
CONTROLLER_FILE: Final = "controller.onnx"
CONTROLLER_OUTPUTS: Final = ("change", "gain")
_PROBES: Final = ((1, 0, 5), (1, 10, 100), (3, 4, 7), (8, 10, 1))
"""Rows, items in the window and candidates that an exported graph is compared on."""


Calibration = Mapping[str, tuple[float, ...]]
"""By output of a controller, its thresholds for 1 %, 2 %, ... of the rankings."""


def compile_bundle(
    method: Method,
    model: nn.Module,
    log_hash: str,
    calibrate: Callable[[nn.Module], Calibration] = lambda _: {},
) -> Bundle:
    """Export ``model`` and freeze it with its manifest, defaults and test vector.

    Args:
        method: what trained it.
        model: the trained module, on any torch device.
        log_hash: names the prepared log that it was trained on.
        calibrate: finds the thresholds of a controller, where the method has one.

    Raises:
        BundleRefused: the graph does not reproduce torch.
    """
    model = model.cpu().eval()
    exported = method.export(model)
    graph = scorer_graph(exported, method.config.device_features.window)
    prove(graph, exported, method)
    controller = method.controller(model) if isinstance(method, Controls) else None
    slots = {name: value.detach().numpy() for name, value in exported.slots.items()}
    specs = [TensorSpec(name=name, shape=value.shape) for name, value in slots.items()]
    files = {
        SCORER_FILE: graph,
        TEST_VECTOR: arrays_to_bytes(_test_vector(exported, method)),
        **({DEFAULTS: arrays_to_bytes(slots)} if slots else {}),
        **({CONTROLLER_FILE: controller_graph(controller, method)} if controller else {}),
    }
    manifest = {
        "method": method.name,
        "config": method.config.model_dump(mode="json"),
        "log_hash": log_hash,
        "features": method.config.device_features.model_dump(),
        "graphs": {
            "scorer": _ports(specs),
            **({"controller": _CONTROLLER_PORTS} if controller else {}),
        },
        "slots": [spec.model_dump() for spec in specs],
        "refresh": method.config.refresh.model_dump(),
        "uplink": method.config.uplink and method.config.uplink.model_dump(),
        "controller": {"calibration": calibrate(controller)} if controller else None,
        "uploads": method.config.uploads,
    }
    return Bundle.make(manifest, files)


def scorer_graph(exported: ScorerExport, window: int) -> bytes:
    """The scorer as ONNX bytes, batch, window and candidates dynamic."""
    events = torch.ones(2, window, dtype=torch.int64)
    candidates = torch.ones(2, 3, dtype=torch.int64)
    slots = tuple(value.detach() for value in exported.slots.values())
    batch, length, choice = (torch.export.Dim(name) for name in ("batch", "length", "choice"))
    dynamic: list[Any] = [{0: batch, 1: length}, {0: batch, 1: choice}]
    shapes = (*dynamic, tuple({} for _ in slots)) if _takes_slots(exported.scorer) else (*dynamic,)
    inputs = ("event_ids", "candidate_ids", *exported.slots)
    return _onnx(exported.scorer, (events, candidates, *slots), shapes, inputs, ("scores",))


def controller_graph(controller: nn.Module, method: Method) -> bytes:
    """The controller as ONNX bytes, batch and window dynamic, proved against torch.

    Raises:
        BundleRefused: the graph does not reproduce torch.
    """
    uplink = method.config.uplink
    length, items = uplink.items if uplink else 1, method.config.features.items
    probes = [_windows(items, rows, known, length) for rows, known in ((2, 3), (3, length), (1, 0))]
    batch, window = torch.export.Dim("batch"), torch.export.Dim("length")
    shapes = ({0: batch, 1: window},) * 2
    example = tuple(map(torch.from_numpy, probes[0]))
    graph = _onnx(controller, example, shapes, _CONTROLLER_INPUTS, CONTROLLER_OUTPUTS)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for pair in probes:
        got = session.run(
            list(CONTROLLER_OUTPUTS), dict(zip(_CONTROLLER_INPUTS, pair, strict=True))
        )
        with torch.inference_mode():
            expected = controller(*map(torch.from_numpy, pair))
        if not all(same_scores(ours, e.numpy()) for ours, e in zip(got, expected, strict=True)):
            raise BundleRefused(f"the controller's graph differs from torch for {pair[0].shape}")
    return graph


def _onnx(
    module: nn.Module,
    example: tuple[Tensor, ...],
    shapes: tuple[Any, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> bytes:
    """``module`` as a stripped and checked graph."""
    with warnings.catch_warnings(), _quiet_exporter():
        warnings.simplefilter("ignore")
        # The module itself, not an exported program: only so does a GRU keep its length dynamic.
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise BundleRefused("torch exported nothing")
    return strip(program.model_proto.SerializeToString())


def strip(graph: bytes) -> bytes:
    """``graph`` without names of source files, doc strings and inferred shapes; fully checked."""
    model = onnx.load_from_string(graph)
    model.producer_name = model.producer_version = model.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    model.graph.doc_string = ""
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def prove(graph: bytes, exported: ScorerExport, method: Method) -> None:
    """Compare ``graph`` with torch on several sizes, the empty window among them.

    Raises:
        BundleRefused: a slot lost its name, or a score differs by more than `TOLERANCE`.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    inputs = {port.name for port in session.get_inputs()}
    wanted = {"event_ids", "candidate_ids", *exported.slots}
    if inputs != wanted:
        raise BundleRefused(f"the graph reads {sorted(inputs)}, not {sorted(wanted)}")
    for probe in _PROBES:
        feeds = _probe(exported, method, *probe)
        got = session.run(["scores"], feeds)[0]
        if not same_scores(got, _torch_scores(exported, feeds)):
            raise BundleRefused(f"the graph differs from torch for (rows, window, C) = {probe}")


def same_scores(got: Float32Array, expected: Float32Array) -> bool:
    """Whether all differences stay within the project's one tolerance."""
    bound = TOLERANCE * np.maximum(1, np.abs(expected))
    return bool(np.isfinite(got).all() and (np.abs(got - expected) <= bound).all())


def _takes_slots(scorer: nn.Module) -> bool:
    kinds = (p.kind for p in inspect.signature(scorer.forward).parameters.values())
    return inspect.Parameter.VAR_POSITIONAL in kinds


def _probe(
    exported: ScorerExport, method: Method, rows: int, known: int, choice: int
) -> dict[str, Any]:
    """Feeds with ``known`` items in each window, and slots moved away from their defaults."""
    rng = np.random.default_rng(rows * 100 + choice)
    features = method.config.device_features
    events = np.zeros((rows, features.window), dtype=np.int64)
    known = min(known, features.window)
    events[:, :known] = rng.integers(1, features.items + 1, (rows, known))
    slots = {name: value.detach().numpy() for name, value in exported.slots.items()}
    return {
        "event_ids": events,
        "candidate_ids": rng.integers(1, features.items + 1, (rows, choice)),
        **{n: v + 0.1 * rng.standard_normal(v.shape, np.float32) for n, v in slots.items()},
    }


def _windows(items: int, rows: int, known: int, length: int) -> tuple[Int64Array, Int64Array]:
    """Two sets of right-padded windows that overlap, as a device has them now and had then."""
    drawn = np.random.default_rng(rows).integers(1, items + 1, (rows, known + 1))
    now, then = (np.zeros((rows, length), np.int64) for _ in range(2))
    now[:, :known], then[:, :known] = drawn[:, 1:], drawn[:, :-1]
    return now, then


def _torch_scores(exported: ScorerExport, feeds: dict[str, Any]) -> Float32Array:
    with torch.inference_mode():
        scores: Tensor = exported.scorer(*(torch.from_numpy(feed) for feed in feeds.values()))
    array: Float32Array = scores.numpy()
    return array


def _test_vector(exported: ScorerExport, method: Method) -> dict[str, Any]:
    feeds = _probe(exported, method, 2, method.config.device_features.window - 1, 7)
    feeds["event_ids"][1] = 0
    return {**feeds, "scores": _torch_scores(exported, feeds)}


_CONTROLLER_INPUTS: Final = ("event_ids", "refreshed_ids")
_CONTROLLER_PORTS: Final[dict[str, Any]] = {
    "file": CONTROLLER_FILE,
    "inputs": [
        TensorSpec(name=name, dtype="int64", shape=("batch", "length"))
        for name in _CONTROLLER_INPUTS
    ],
    "outputs": [TensorSpec(name=name, shape=("batch",)) for name in CONTROLLER_OUTPUTS],
}


def _ports(slots: list[TensorSpec]) -> dict[str, Any]:
    return {
        "file": SCORER_FILE,
        "inputs": [
            TensorSpec(name="event_ids", dtype="int64", shape=("batch", "length")),
            TensorSpec(name="candidate_ids", dtype="int64", shape=("batch", "choice")),
            *slots,
        ],
        "outputs": [TensorSpec(name="scores", shape=("batch", "choice"))],
    }


class _quiet_exporter:  # noqa: N801 - reads as the context manager that it is
    """The exporter logs its progress as warnings; only errors are news."""

    def __enter__(self) -> None:
        self._loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
