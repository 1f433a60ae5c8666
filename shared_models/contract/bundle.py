"""The bundle: everything that a device runs, immutable and named by its content.

On disk a bundle is a folder ``<id>/`` with ``manifest.json``, ONNX graphs and tables; on the wire
it is one zstd frame (`pack`, `unpack`). Its id is the SHA-256 of the manifest's bytes, and the
manifest holds the SHA-256 of every other file.
"""

import hashlib
import json
import shutil
import struct
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import zstandard

from shared_models.contract.arrays import Arrays, arrays_from_bytes
from shared_models.contract.errors import (
    BundleCorrupt,
    BundleRefused,
    PathMissing,
    UnknownBundle,
)
from shared_models.contract.manifest import Manifest, parse_manifest
from shared_models.contract.tensors import Float32Array

MANIFEST: Final = "manifest.json"
DEFAULTS: Final = "slots.npz"
TEST_VECTOR: Final = "test_vector.npz"
LEARNING_VECTOR: Final = "learning_vector.npz"
TOLERANCE: Final = 1e-5
"""The one tolerance of the project: |difference| at most this times max(1, |score|)."""
LARGEST: Final = 1 << 30
"""Bytes of a bundle, packed or not, that nobody reads more of."""
_PIECE: Final = 1 << 12
"""Bytes of a frame that are unpacked at a time: even the tightest come to 128 MiB at most."""
_NO_BUNDLE: Final = (
    *(zstandard.ZstdError, struct.error, ValueError, KeyError),
    *(AttributeError, TypeError, RecursionError),
)
"""What damaged frames raise in the libraries that read them."""


class Bundle:
    """A manifest and the bytes of its files, checked against their hashes when made."""

    def __init__(self, manifest_bytes: bytes, files: Mapping[str, bytes]) -> None:
        self.id = hashlib.sha256(manifest_bytes).hexdigest()
        self.manifest = parse_manifest(manifest_bytes)
        self.manifest_bytes = manifest_bytes
        self.files = dict(files)
        _check_files(self.manifest, self.files)

    @classmethod
    def make(cls, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> "Bundle":
        """Name ``files`` in ``manifest`` (its fields but ``files``) and freeze both."""
        listed = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for name, data in sorted(files.items())
        }
        checked = Manifest.model_validate({**manifest, "files": listed})
        text = json.dumps(checked.model_dump(mode="json"), sort_keys=True, indent=1)
        return cls(text.encode(), files)

    def graph(self, name: str) -> bytes:
        """The bytes of a graph's ONNX file."""
        return self.files[self.manifest.graphs[name].file]

    @property
    def defaults(self) -> dict[str, Float32Array]:
        """The slot values of the un-personalised model."""
        if DEFAULTS not in self.files:
            return {}
        return {k: v.astype(np.float32) for k, v in arrays_from_bytes(self.files[DEFAULTS]).items()}

    def check_defaults(self) -> None:
        """Refuse slots whose own values are not what the manifest says, or not numbers.

        Raises:
            BundleRefused: there are such; no test vector would tell, for it brings its own values.
        """
        found = self.defaults
        for spec in self.manifest.slots:
            value = found.get(spec.name)
            if value is None or value.shape != spec.shape or not np.isfinite(value).all():
                raise BundleRefused(
                    f"bundle {self.id[:12]}: slot {spec.name!r} has no finite values of shape "
                    f"{spec.shape}"
                )

    @property
    def test_vector(self) -> Arrays:
        """Inputs of the scorer by name, and ``scores`` as the cloud computed them."""
        return arrays_from_bytes(self.files[TEST_VECTOR])

    @property
    def learning_vector(self) -> Arrays:
        """Inputs of the graph ``grad`` by name, and its outputs as the cloud computed them."""
        return arrays_from_bytes(self.files[LEARNING_VECTOR])

    @property
    def lineage(self) -> str:
        """Names the values that devices share: this bundle's, or also those of its successors."""
        manifest = self.manifest
        if manifest.federation is None or not manifest.federation.outlives:
            return self.id
        groups = manifest.groups.count if manifest.groups else 0
        return f"{manifest.method}/{manifest.slot_schema}/{groups}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return len(self.manifest_bytes) + sum(map(len, self.files.values()))


class BundleStore:
    """Bundles in a folder, each under its id; the names of the released ones beside them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def add(self, bundle: Bundle) -> Path:
        """Keep ``bundle``; a reader sees all of it or nothing."""
        target = self._root / bundle.id
        if target.exists():
            return target
        self._root.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=self._root, prefix=".draft-"))
        try:
            for name, data in {MANIFEST: bundle.manifest_bytes, **bundle.files}.items():
                (draft / name).write_bytes(data)
            draft.rename(target)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            if not target.exists():
                raise
        return target

    def get(self, bundle_id: str) -> Bundle:
        """Read a bundle and check every byte.

        Raises:
            UnknownBundle: it is not here.
            BundleCorrupt: a file does not match its hash.
        """
        if not bundle_id.isalnum() or not (self._root / bundle_id).is_dir():
            raise UnknownBundle(bundle_id)
        bundle = read_bundle(self._root / bundle_id)
        if bundle.id != bundle_id:
            raise BundleCorrupt(f"{self._root / bundle_id}: the manifest is that of {bundle.id}")
        return bundle

    def discard(self, bundle_id: str) -> None:
        """Forget a bundle, so that it is fetched again."""
        shutil.rmtree(self._root / bundle_id, ignore_errors=True)

    def release(self, bundle: Bundle) -> None:
        """Name ``bundle`` as what devices of its method should run, at once or not at all."""
        self._write({**self.released(), bundle.manifest.method: bundle.id})

    def _write(self, names: Mapping[str, str]) -> None:
        draft = self._root / ".released.draft"
        draft.write_text(json.dumps(names, sort_keys=True))
        draft.replace(self._root / "released.json")

    def take_back(self, method: str, bad: str, good: str) -> None:
        """Name ``good`` as the released bundle of ``method`` again, if that is still ``bad``."""
        if self.released().get(method) == bad:
            self._write({**self.released(), method: good})

    def released(self) -> dict[str, str]:
        """Bundle id by method."""
        path = self._root / "released.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle from its folder and check every byte."""
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        raise PathMissing(manifest_path)
    manifest_bytes = manifest_path.read_bytes()
    names = parse_manifest(manifest_bytes).files
    _check_names(names)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BundleCorrupt(f"{folder}: lacks {', '.join(missing)}")
    return Bundle(manifest_bytes, {name: (folder / name).read_bytes() for name in names})


def pack(bundle: Bundle) -> bytes:
    """The bundle as one zstd frame; the same bundle gives the same bytes."""
    parts = {MANIFEST: bundle.manifest_bytes, **dict(sorted(bundle.files.items()))}
    index = json.dumps({name: len(data) for name, data in parts.items()}).encode()
    raw = struct.pack("<I", len(index)) + index + b"".join(parts.values())
    return zstandard.ZstdCompressor(level=9, write_checksum=True).compress(raw)


def unpack(data: bytes, bundle_id: str, largest: int = LARGEST) -> Bundle:
    """Read what `pack` wrote.

    Raises:
        BundleCorrupt: a byte is not as it left the cloud, this is another bundle, or it would
            unpack to more than ``largest`` bytes.
    """
    try:
        raw = _decompressed(data, largest)
        (index_size,) = struct.unpack_from("<I", raw)
        index: dict[str, int] = json.loads(raw[4 : 4 + index_size])
        parts, start = {}, 4 + index_size
        for name, size in index.items():
            parts[name] = raw[start : start + size]
            start += size
        manifest_bytes = parts.pop(MANIFEST)
    except _NO_BUNDLE as error:
        raise BundleCorrupt(f"bundle {bundle_id[:12]}: the download is damaged") from error
    if hashlib.sha256(manifest_bytes).hexdigest() != bundle_id:
        raise BundleCorrupt(f"bundle {bundle_id[:12]}: another manifest came")
    return Bundle(manifest_bytes, parts)


def _decompressed(data: bytes, largest: int) -> bytes:
    """What a zstd frame holds; memory grows with what comes out, not with what it promises.

    Raises:
        ValueError: it is cut short.
        BundleCorrupt: it is larger than any bundle may be.
    """
    frame, raw = zstandard.ZstdDecompressor().decompressobj(), bytearray()
    for start in range(0, len(data), _PIECE):
        raw += frame.decompress(data[start : start + _PIECE])
        if len(raw) > largest:
            raise BundleCorrupt(f"it unpacks to more than {largest} bytes")
        if frame.eof:
            break
    if not frame.eof:
        raise ValueError("cut short")
    return bytes(raw)


def same(got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> bool:
    """Whether shapes are equal and all differences stay within the project's one tolerance."""
    bound = TOLERANCE * np.maximum(1, np.abs(expected))
    return bool(
        got.shape == expected.shape
        and np.isfinite(got).all()
        and (np.abs(got - expected) <= bound).all()
    )


def _check_files(manifest: Manifest, files: Mapping[str, bytes]) -> None:
    _check_names(manifest.files)
    if set(manifest.files) != set(files):
        raise BundleCorrupt("the bundle holds other files than its manifest names")
    for name, graph in manifest.graphs.items():
        if graph.file not in files:
            raise BundleCorrupt(f"the bundle lacks {graph.file!r}, its graph {name!r}")
    for name, spec in manifest.files.items():
        if hashlib.sha256(files[name]).hexdigest() != spec.sha256:
            raise BundleCorrupt(f"{name} does not match its hash")


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if Path(name).name != name:
            raise BundleCorrupt(f"the manifest names a file outside the bundle: {name!r}")
