"""From a trained method to a bundle: every graph is proved in onnxruntime before it is written."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import onnxruntime
import torch
from torch import Tensor, nn

from shared_models import control, encoding, gradient
from shared_models.contract.arrays import arrays_to_bytes
from shared_models.contract.bundle import DEFAULTS, LEARNING_VECTOR, TEST_VECTOR, Bundle, same
from shared_models.contract.errors import BundleRefused
from shared_models.contract.features import PRIOR, PROFILE, FeatureSpec
from shared_models.contract.tensors import Float32Array, TensorSpec
from shared_models.control import Calibrate
from shared_models.graphs import PROBES, probe, to_onnx
from shared_models.method import (
    ControllerExport,
    Controls,
    EncoderExport,
    LearnerExport,
    Learns,
    Method,
    ScorerExport,
)

SCORER_FILE: Final = "scorer.onnx"
GRAD_FILE: Final = "grad.onnx"
CONTROLLER_FILE: Final = "controller.onnx"
ENCODER_FILE: Final = "encoder.onnx"
_SIZES: Final = {
    "event_ids": {0: "batch", 1: "length"},
    "candidate_ids": {0: "batch", 1: "choice"},
    PROFILE: {0: "batch"},
    PRIOR: {0: "batch", 1: "choice"},
}


def compile_bundle(
    method: Method, model: nn.Module, log_hash: str, calibrate: Calibrate = lambda _: {}
) -> Bundle:
    """Export ``model`` and freeze it with its manifest, defaults and test vectors.

    Args:
        method: what trained it.
        model: the trained module, on any torch device.
        log_hash: names the prepared log that it was trained on.
        calibrate: finds the thresholds of a controller, where the method has one.

    Raises:
        BundleRefused: a graph does not reproduce torch.
    """
    model = model.cpu().eval()
    exported = method.export(model)
    slots = {name: value.detach().numpy() for name, value in exported.slots.items()}
    specs = [TensorSpec(name=name, shape=value.shape) for name, value in slots.items()]
    learner = method.learner(model) if isinstance(method, Learns) else None
    controller = method.controller(model) if isinstance(method, Controls) else None
    files = {
        SCORER_FILE: proved_scorer(exported, method),
        TEST_VECTOR: arrays_to_bytes(_test_vector(exported, method)),
        **({DEFAULTS: arrays_to_bytes(slots)} if slots else {}),
        **(_learning_files(exported, learner, method) if learner else {}),
        **({CONTROLLER_FILE: _controller(controller, method)} if controller else {}),
        **({ENCODER_FILE: _encoder(exported.encoder, method)} if exported.encoder else {}),
    }
    graphs = {
        "scorer": _ports(SCORER_FILE, specs, method.config.device_features),
        **({"encoder": encoding.ports(ENCODER_FILE, exported.encoder)} if exported.encoder else {}),
        **({"grad": gradient.ports(GRAD_FILE, specs)} if learner else {}),
        **({"controller": control.ports(CONTROLLER_FILE, controller)} if controller else {}),
    }
    manifest = {
        "method": method.name,
        "config": method.config.model_dump(mode="json"),
        "log_hash": log_hash,
        "features": method.config.device_features.model_dump(),
        "graphs": graphs,
        "slots": [spec.model_dump() for spec in specs],
        "refresh": method.config.refresh.model_dump(),
        "uplink": method.config.uplink and method.config.uplink.model_dump(),
        "ranking": method.config.ranking and method.config.ranking.model_dump(),
        "controller": controller and {"calibration": calibrate(controller.controller)},
        "learning": learner and learner.spec.model_dump(),
        "groups": _groups(exported),
        "memory": method.config.memory and method.config.memory.model_dump(),
        "neighbours": method.config.neighbours.count if method.config.neighbours else 0,
        "uploads": method.config.uploads,
        "cross_user": method.config.neighbours is not None
        or (learner is not None and learner.spec.federation is not None),
    }
    return Bundle.make(manifest, files)


def proved_scorer(exported: ScorerExport, method: Method) -> bytes:
    """The scorer as ONNX bytes, batch, window and candidates dynamic.

    Raises:
        BundleRefused: it does not reproduce torch.
    """
    features = method.config.device_features
    events = torch.ones(2, features.window, dtype=torch.int64)
    example = {"event_ids": events, "candidate_ids": torch.ones(2, 3, dtype=torch.int64)}
    if features.profile:
        example[PROFILE] = torch.ones(2, features.profile.most, dtype=torch.int64)
    if features.prior:
        example[PRIOR] = torch.ones(2, 3)
    slots = {name: value.detach() for name, value in exported.slots.items()}
    sizes = {name: _SIZES[name] for name in example}
    graph = to_onnx(exported.scorer, example, slots, ["scores"], sizes)
    prove(graph, exported, method)
    return graph


def prove(graph: bytes, exported: ScorerExport, method: Method) -> None:
    """Compare ``graph`` with torch on several sizes, the empty window among them.

    Raises:
        BundleRefused: a slot lost its name, or a score differs by more than the tolerance.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    inputs = {port.name for port in session.get_inputs()}
    wanted = {port.name for port in _inputs(method.config.device_features)} | {*exported.slots}
    if inputs != wanted:
        raise BundleRefused(f"the graph reads {sorted(inputs)}, not {sorted(wanted)}")
    for size in PROBES:
        feeds = probe(method.config.device_features, exported.slots, size)
        if not same(session.run(["scores"], feeds)[0], _torch_scores(exported, feeds)):
            raise BundleRefused(f"the graph differs from torch for (rows, T, known, C) = {size}")


def _learning_files(
    exported: ScorerExport, learner: LearnerExport, method: Method
) -> dict[str, bytes]:
    graph = gradient.proved_gradient(exported, learner, method.config.device_features)
    vector = gradient.learning_vector(exported, method.config.device_features)
    return {GRAD_FILE: graph, LEARNING_VECTOR: arrays_to_bytes(vector)}


def _controller(controller: ControllerExport, method: Method) -> bytes:
    uplink = method.config.uplink
    return control.proved_controller(
        controller, method.config.features.items, uplink.items if uplink else 1
    )


def _torch_scores(exported: ScorerExport, feeds: Mapping[str, Any]) -> Float32Array:
    with torch.inference_mode():
        scores: Tensor = exported.scorer(*(torch.from_numpy(feed) for feed in feeds.values()))
    array: Float32Array = scores.numpy()
    return array


def _test_vector(exported: ScorerExport, method: Method) -> dict[str, Any]:
    window = method.config.device_features.window
    feeds = probe(method.config.device_features, exported.slots, (2, window, window - 1, 7))
    feeds["event_ids"][1] = 0
    return {**feeds, "scores": _torch_scores(exported, feeds)}


def _encoder(encoder: EncoderExport, method: Method) -> bytes:
    uplink = method.config.uplink
    return encoding.proved_encoder(
        encoder, method.config.features.items, uplink.items if uplink else 1
    )


def _groups(exported: ScorerExport) -> dict[str, Any] | None:
    if not exported.groups:
        return None
    return {"count": len(exported.groups), "slots": tuple(exported.groups[0])}


def _inputs(features: FeatureSpec) -> list[TensorSpec]:
    """What the scorer reads beside slots."""
    about, choice = features.profile, ("batch", "choice")
    return [
        TensorSpec(name="event_ids", dtype="int64", shape=("batch", "length")),
        TensorSpec(name="candidate_ids", dtype="int64", shape=choice),
        *([TensorSpec(name=PROFILE, dtype="int64", shape=("batch", about.most))] if about else []),
        *([TensorSpec(name=PRIOR, shape=choice)] if features.prior else []),
    ]


def _ports(file: str, slots: Sequence[TensorSpec], features: FeatureSpec) -> dict[str, Any]:
    return {
        "file": file,
        "inputs": [*_inputs(features), *slots],
        "outputs": [TensorSpec(name="scores", shape=("batch", "choice"))],
    }
