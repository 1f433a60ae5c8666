"""`concerto inspect`: what a device would know of a bundle."""

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from rich.console import Console

from shared_models.contract.arrays import arrays_to_bytes
from shared_models.contract.bundle import DEFAULTS, TEST_VECTOR, Bundle, BundleStore
from shared_models.contract.errors import BundleCorrupt, BundleRefused, PathMissing
from shared_models.contract.manifest import RefreshRule, UplinkSpec
from simulator.inspection import inspect_bundle, open_bundles, rule, uplink
from tests.device_client.node_bundles import node_bundle


def scorer_graph() -> bytes:
    """scores = candidate id + bias."""
    ports = [
        helper.make_tensor_value_info("event_ids", TensorProto.INT64, ["B", "T"]),
        helper.make_tensor_value_info("candidate_ids", TensorProto.INT64, ["B", "C"]),
        helper.make_tensor_value_info("head.bias", TensorProto.FLOAT, [1]),
    ]
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["B", "C"])
    nodes = [
        helper.make_node("Cast", ["candidate_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["ids", "head.bias"], ["scores"]),
    ]
    graph = helper.make_graph(nodes, "scorer", ports, [scores])
    opset = [helper.make_opsetid("", 20)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    onnx.checker.check_model(data)
    return data


def make_bundle(expected: float = 3.5) -> Bundle:
    slot = {"name": "head.bias", "dtype": "float32", "shape": [1]}
    inputs = [
        {"name": "event_ids", "dtype": "int64", "shape": ["B", "T"]},
        {"name": "candidate_ids", "dtype": "int64", "shape": ["B", "C"]},
        slot,
    ]
    outputs = [{"name": "scores", "dtype": "float32", "shape": ["B", "C"]}]
    vector = {
        "event_ids": np.array([[1, 0]]),
        "candidate_ids": np.array([[3]]),
        "head.bias": np.array([0.5], np.float32),
        "scores": np.array([[expected]], np.float32),
    }
    manifest = {
        "method": "biased",
        "config": {},
        "log_hash": "abc",
        "features": {"items": 5, "window": 2},
        "graphs": {"scorer": {"file": "scorer.onnx", "inputs": inputs, "outputs": outputs}},
        "slots": [slot],
        "refresh": {"rule": "every-n", "every": 5, "max_age": 20},
        "uplink": {"items": 7},
    }
    files = {
        "scorer.onnx": scorer_graph(),
        DEFAULTS: arrays_to_bytes({"head.bias": np.zeros(1, np.float32)}),
        TEST_VECTOR: arrays_to_bytes(vector),
    }
    return Bundle.make(manifest, files)


def printed(bundle: Bundle) -> str:
    out = io.StringIO()
    inspect_bundle(bundle, Console(file=out, width=200))
    return out.getvalue()


def test_a_person_reads_what_a_device_would_know() -> None:
    bundle = make_bundle()

    text = printed(bundle)

    for fact in (
        bundle.id,
        "biased",
        "every 5 events, believed for 20 events",
        "the newest 7 items",
        "head.bias float32 (1)",
        "candidate_ids",
        "int64 (B, T)",
        "test vector: comes out",
        "CPUExecutionProvider",
    ):
        assert fact in text


def test_what_a_refresh_sends_is_told() -> None:
    specs = (
        None,
        UplinkSpec(items=7),
        UplinkSpec(items=7, outputs=("shared",)),
        UplinkSpec(items=7, pending=True),
    )

    assert [uplink(spec) for spec in specs] == [
        "nothing",
        "the newest 7 items",
        "shared, made of the newest 7 items",
        "the events that the cloud has not stored",
    ]
    assert rule(RefreshRule(rule="once")) == "before the first ranking"


def test_a_bundle_that_no_device_would_activate_is_shown_and_refused() -> None:
    with pytest.raises(BundleRefused, match="test vector"):
        printed(make_bundle(expected=4.0))


def test_a_store_shows_what_is_released_and_a_folder_its_own_bundle(tmp_path: Path) -> None:
    bundle = make_bundle()
    store = BundleStore(tmp_path)
    path = store.add(bundle)
    store.release(bundle)

    assert [found.id for found in open_bundles(tmp_path)] == [bundle.id]
    assert [found.id for found in open_bundles(path)] == [bundle.id]


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    path = BundleStore(tmp_path).add(make_bundle())
    damaged = bytearray((path / "scorer.onnx").read_bytes())
    damaged[20] ^= 1
    (path / "scorer.onnx").write_bytes(damaged)

    with pytest.raises(BundleCorrupt, match=r"scorer\.onnx"):
        open_bundles(path)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PathMissing):
        open_bundles(tmp_path / "none")


def test_a_classifier_of_nodes_is_shown_by_what_it_reads() -> None:
    text = printed(node_bundle())

    for fact in ("node-classification", "3 features, one of 2 classes", "test vector: comes out"):
        assert fact in text
    with pytest.raises(BundleRefused, match="test vector"):
        printed(node_bundle(vector_scale=2.0))
