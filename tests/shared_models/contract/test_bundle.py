"""Bundles: content-addressed, checked byte by byte, released at once or not at all."""

import json
from pathlib import Path

import numpy as np
import pytest

from shared_models.contract.arrays import arrays_from_bytes, arrays_to_bytes
from shared_models.contract.bundle import (
    TEST_VECTOR,
    Bundle,
    BundleStore,
    pack,
    read_bundle,
    unpack,
)
from shared_models.contract.errors import BundleCorrupt, BundleIncompatible, UnknownBundle


def make_bundle(graph: bytes = b"graph") -> Bundle:
    manifest = {
        "method": "toy",
        "config": {},
        "log_hash": "none",
        "features": {"items": 5},
        "graphs": {"scorer": {"file": "scorer.onnx", "inputs": [], "outputs": []}},
    }
    return Bundle.make(manifest, {"scorer.onnx": graph, TEST_VECTOR: arrays_to_bytes({})})


def test_the_same_content_has_the_same_name_and_other_content_another() -> None:
    assert make_bundle().id == make_bundle().id
    assert make_bundle().id != make_bundle(b"other").id


def test_a_bundle_survives_folder_and_wire(tmp_path: Path) -> None:
    bundle = make_bundle()

    from_folder = read_bundle(BundleStore(tmp_path).add(bundle))
    from_wire = unpack(pack(bundle), bundle.id)

    assert from_folder.files == from_wire.files == bundle.files
    assert from_folder.manifest == from_wire.manifest == bundle.manifest


def test_every_flipped_byte_is_noticed() -> None:
    bundle = make_bundle()
    packed = pack(bundle)

    for place in range(len(packed)):
        damaged = bytearray(packed)
        damaged[place] ^= 1
        try:
            again = unpack(bytes(damaged), bundle.id)
        except BundleCorrupt:
            continue
        # A bit that the format ignores may flip; what is read must still be the bundle.
        assert again.files == bundle.files


def test_a_truncated_download_is_noticed() -> None:
    bundle = make_bundle()

    with pytest.raises(BundleCorrupt):
        unpack(pack(bundle)[:-1], bundle.id)


def test_another_bundle_is_not_taken_for_the_one_asked_for() -> None:
    with pytest.raises(BundleCorrupt, match="another manifest"):
        unpack(pack(make_bundle(b"other")), make_bundle().id)


def test_a_damaged_file_in_the_store_is_noticed(tmp_path: Path) -> None:
    store, bundle = BundleStore(tmp_path), make_bundle()
    (store.add(bundle) / "scorer.onnx").write_bytes(b"GRAPH")

    with pytest.raises(BundleCorrupt, match=r"scorer\.onnx"):
        store.get(bundle.id)


def test_a_bundle_of_another_format_is_refused_with_advice(tmp_path: Path) -> None:
    folder = BundleStore(tmp_path).add(make_bundle())
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))

    with pytest.raises(BundleIncompatible, match=r"format 99.*export it again"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["nothing", "../../etc", ""])
def test_an_unknown_or_dangerous_name_is_unknown(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownBundle):
        BundleStore(tmp_path).get(name)


def test_a_release_replaces_the_one_before_of_its_method_only(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    for bundle in (make_bundle(), make_bundle(b"new")):
        store.add(bundle)
        store.release(bundle)

    assert store.released() == {"toy": make_bundle(b"new").id}


def test_arrays_give_the_same_bytes_in_whatever_order_they_are_named() -> None:
    one, two = np.arange(3, dtype=np.float32), np.ones((2, 2), np.float32)

    data = arrays_to_bytes({"a": one, "b": two})

    assert data == arrays_to_bytes({"b": two, "a": one})
    np.testing.assert_array_equal(arrays_from_bytes(data)["b"], two)
