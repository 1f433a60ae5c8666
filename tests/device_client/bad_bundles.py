"""What must never run on a device: bundles that broke while they were made, stored or sent."""

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import zstandard
from onnx import TensorProto, helper, numpy_helper

from shared_models.contract.arrays import arrays_from_bytes, arrays_to_bytes
from shared_models.contract.bundle import DEFAULTS, MANIFEST, TEST_VECTOR, Bundle, pack
from shared_models.contract.manifest import FORMAT
from simulator.poison import flipped, resealed
from tests.device_client.fakes import SLOT, WIDTH, build_bundle

LIMIT = 1 << 20
"""Bytes of a bundle that the devices of these tests read at most."""


@dataclass(frozen=True)
class Bad:
    """A bundle as a cloud offers it.

    Attributes:
        bundle_id: under which it is offered.
        packed: what a download brings.
        manifest: its manifest, as a cloud has it on disk.
        files: its other files.
    """

    bundle_id: str
    packed: bytes
    manifest: bytes
    files: dict[str, bytes]


def packed(manifest: bytes, files: dict[str, bytes]) -> bytes:
    """As `pack` writes it, whatever is in it."""
    parts = {MANIFEST: manifest, **files}
    index = json.dumps({name: len(data) for name, data in parts.items()}).encode()
    raw = struct.pack("<I", len(index)) + index + b"".join(parts.values())
    return zstandard.ZstdCompressor(write_checksum=True).compress(raw)


def sealed(manifest: bytes, files: dict[str, bytes]) -> Bad:
    bundle_id = hashlib.sha256(manifest).hexdigest()
    return Bad(bundle_id, packed(manifest, files), manifest, files)


def with_files(**changed: bytes) -> Bad:
    """The good bundle with other files, every hash right."""
    good = build_bundle()
    return sealed(*resealed(good, {**good.files, **changed}))


def on_the_way(change: Callable[[bytes], bytes]) -> Bad:
    """A good bundle, damaged between disk and device."""
    good = build_bundle(refresh={"rule": "never"})
    return Bad(good.id, change(pack(good)), good.manifest_bytes, dict(good.files))


def arrays(name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Bad:
    good = build_bundle()
    changed = change(dict(arrays_from_bytes(good.files[name])))
    return sealed(*resealed(good, {**good.files, name: arrays_to_bytes(changed)}))


def nan_weights() -> Bad:
    """The graph's own table is not numbers, and neither are the scores that it promises."""
    good = build_bundle()
    model = onnx.load_from_string(good.files["scorer.onnx"])
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = np.full(tuple(tensor.dims), np.nan, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    vector = dict(arrays_from_bytes(good.files[TEST_VECTOR]))
    vector["scores"] = np.full_like(vector["scores"], np.nan)
    files = {"scorer.onnx": model.SerializeToString(), TEST_VECTOR: arrays_to_bytes(vector)}
    return sealed(*resealed(good, {**good.files, **files}))


def unknown_operator() -> Bad:
    good = build_bundle()
    model = onnx.load_from_string(good.files["scorer.onnx"])
    model.graph.node[0].op_type, model.graph.node[0].domain = "Teleport", "elsewhere"
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    return with_files(**{"scorer.onnx": model.SerializeToString()})


def wrong_hash() -> Bad:
    good = build_bundle(refresh={"rule": "never"})
    files = {**good.files, "scorer.onnx": flipped(good.files["scorer.onnx"])}
    return Bad(good.id, packed(good.manifest_bytes, files), good.manifest_bytes, files)


def another_manifest() -> Bad:
    good, other = build_bundle(refresh={"rule": "never"}), build_bundle(uploads=True)
    return Bad(good.id, pack(other), other.manifest_bytes, dict(other.files))


def escaping() -> Bad:
    good = build_bundle()
    return sealed(*resealed(good, {**good.files, "../../escaped": b"out"}))


def relabelled(**changed: Any) -> Bad:
    good = build_bundle()
    return sealed(*resealed(good, good.files, **changed))


def graph_without_file() -> Bad:
    good = build_bundle()
    graphs = json.loads(good.manifest_bytes)["graphs"]
    graphs["scorer"]["file"] = "elsewhere.onnx"
    return relabelled(graphs=graphs)


def port_of_another_type() -> Bad:
    good = build_bundle()
    graphs = json.loads(good.manifest_bytes)["graphs"]
    graphs["scorer"]["outputs"][0]["dtype"] = "int64"
    return relabelled(graphs=graphs)


def input_left_out() -> Bad:
    """Neither the manifest nor the test vector knows of the candidates, which the graph wants."""
    good = build_bundle()
    graphs = json.loads(good.manifest_bytes)["graphs"]
    inputs = graphs["scorer"]["inputs"]
    graphs["scorer"]["inputs"] = [port for port in inputs if port["name"] != "candidate_ids"]
    vector = dict(arrays_from_bytes(good.files[TEST_VECTOR]))
    del vector["candidate_ids"]
    files = {**good.files, TEST_VECTOR: arrays_to_bytes(vector)}
    return sealed(*resealed(good, files, graphs=graphs))


def not_json() -> Bad:
    return sealed(b"\x00 this is no manifest", dict(build_bundle().files))


def _scores(vector: dict[str, Any]) -> dict[str, Any]:
    return {**vector, "scores": vector["scores"] + np.float32(0.01)}


KINDS: dict[str, tuple[Callable[[], Bad], str]] = {
    "truncated": (lambda: on_the_way(lambda data: data[:-40]), "bundle-corrupt"),
    "one byte flipped": (lambda: on_the_way(flipped), "bundle-corrupt"),
    "wrong hash": (wrong_hash, "bundle-corrupt"),
    "another manifest": (another_manifest, "bundle-corrupt"),
    "NaN weights": (nan_weights, "bundle-refused"),
    "NaN slot values": (
        lambda: arrays(DEFAULTS, lambda held: {SLOT: np.full_like(held[SLOT], np.nan)}),
        "bundle-refused",
    ),
    "wrong shape of a slot": (
        lambda: arrays(DEFAULTS, lambda _: {SLOT: np.zeros((WIDTH, WIDTH + 1), np.float32)}),
        "bundle-refused",
    ),
    "failing test vector": (lambda: arrays(TEST_VECTOR, _scores), "bundle-refused"),
    "no test vector": (
        lambda: arrays(TEST_VECTOR, lambda _: {}),
        "bundle-refused",
    ),
    "slot values that are no arrays": (
        lambda: with_files(**{DEFAULTS: b"PK\x03\x04 broken"}),
        "bundle-corrupt",
    ),
    "unknown operator": (unknown_operator, "bundle-refused"),
    "no graph at all": (lambda: relabelled(graphs={}), "bundle-refused"),
    "graph without its file": (graph_without_file, "bundle-corrupt"),
    "port of another type": (port_of_another_type, "bundle-refused"),
    "input left out": (input_left_out, "bundle-refused"),
    "graph that is none": (
        lambda: with_files(**{"scorer.onnx": b"\x00junk" * 50}),
        "bundle-refused",
    ),
    "newer format": (lambda: relabelled(format=FORMAT + 1), "bundle-incompatible"),
    "manifest that is not JSON": (not_json, "bundle-corrupt"),
    "path that leaves the folder": (escaping, "bundle-corrupt"),
    "too large": (
        lambda: with_files(noise=np.random.default_rng(0).bytes(2 * LIMIT)),
        "bundle-corrupt",
    ),
    "small, and large once unpacked": (
        lambda: with_files(zeros=bytes(8 * LIMIT)),
        "bundle-corrupt",
    ),
}


def good_bundle() -> Bundle:
    """What devices run before."""
    return build_bundle()
