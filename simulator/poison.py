"""Bad bundles, made of a good one: what a broken build or a bad disk would leave in a release."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from shared_models.contract.arrays import arrays_from_bytes, arrays_to_bytes
from shared_models.contract.bundle import DEFAULTS, MANIFEST, TEST_VECTOR, Bundle
from shared_models.contract.manifest import FORMAT
from simulator.faults import Poison

_MODELS: Final = "models"
Files = dict[str, bytes]


def poison(good: Bundle, how: Poison, root: Path) -> str:
    """Put a bad copy of ``good`` beside it; gives its id.

    Args:
        good: a bundle under ``root``.
        how: what is wrong with the copy.
        root: the folder that a cloud serves.
    """
    manifest, files = _KINDS[how](good)
    bundle_id = hashlib.sha256(manifest).hexdigest()
    folder = root / bundle_id
    folder.mkdir(exist_ok=True)
    for name, data in {MANIFEST: manifest, **files}.items():
        (folder / name).write_bytes(data)
    model = root / _MODELS / good.id
    if model.exists():
        shutil.copytree(model, root / _MODELS / bundle_id, dirs_exist_ok=True)
    return bundle_id


def name_released(root: Path, method: str, bundle_id: str) -> None:
    """Write that ``bundle_id`` is what devices of ``method`` should run, unlooked at."""
    path = root / "released.json"
    draft = root / ".poison.draft"
    draft.write_text(json.dumps({**json.loads(path.read_text()), method: bundle_id}))
    draft.replace(path)


def resealed(good: Bundle, files: Mapping[str, bytes], **changed: Any) -> tuple[bytes, Files]:
    """Manifest and files of a bundle with other content, its hashes right again."""
    fields = json.loads(good.manifest_bytes)
    listed = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in sorted(files.items())
    }
    text = json.dumps({**fields, **changed, "files": listed}, sort_keys=True, indent=1)
    return text.encode(), dict(files)


def flipped(data: bytes) -> bytes:
    """``data`` with one bit in the middle turned round."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _nan_weights(good: Bundle) -> tuple[bytes, Files]:
    """The slots' own values are not numbers; of a bundle without slots, the scores to expect."""
    name = DEFAULTS if DEFAULTS in good.files else TEST_VECTOR
    arrays = {
        key: np.full_like(value, np.nan) if value.dtype.kind == "f" else value
        for key, value in arrays_from_bytes(good.files[name]).items()
    }
    return resealed(good, {**good.files, name: arrays_to_bytes(arrays)})


def _flipped_byte(good: Bundle) -> tuple[bytes, Files]:
    """The largest file has a wrong bit; the manifest still names the right hash."""
    manifest, files = resealed(good, good.files, config={"poisoned": True})
    largest = max(files, key=lambda name: len(files[name]))
    return manifest, {**files, largest: flipped(files[largest])}


def _test_vector(good: Bundle) -> tuple[bytes, Files]:
    """The graph computes something else than its test vector says."""
    vector = arrays_from_bytes(good.files[TEST_VECTOR])
    vector["scores"] = vector["scores"] + 1
    return resealed(good, {**good.files, TEST_VECTOR: arrays_to_bytes(vector)})


def _no_graph(good: Bundle) -> tuple[bytes, Files]:
    """The manifest names no graph."""
    return resealed(good, good.files, graphs={})


def _newer_format(good: Bundle) -> tuple[bytes, Files]:
    """The manifest is of a format that nobody here reads."""
    return resealed(good, good.files, format=FORMAT + 1)


_KINDS: Final[Mapping[Poison, Callable[[Bundle], tuple[bytes, Files]]]] = {
    "nan-weights": _nan_weights,
    "flipped-byte": _flipped_byte,
    "test-vector": _test_vector,
    "no-graph": _no_graph,
    "newer-format": _newer_format,
}
