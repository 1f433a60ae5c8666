"""The bundles that the cloud hands out, and which of them are released."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final

from cloud_server.failpoints import failpoint
from cloud_server.proving import prove
from protos.v1.collaboration_pb2 import Chunk, Release
from shared_models.contract.bundle import Bundle, BundleStore, pack
from shared_models.contract.errors import (
    BadAsk,
    ConcertoError,
    PathMissing,
    UnknownBundle,
    UnknownName,
)
from shared_models.contract.log_lines import note

CHUNK_BYTES: Final = 128 * 1024
"""Per message, more than per byte, is what gRPC costs: on busy cores half of this costs 1.6 times
the processor time (`bench.service`); twice this is memory on devices, and waste when one drops."""
_PACKED_KEPT: Final = 4
_BUNDLE_ID: Final = re.compile("[0-9a-f]{64}")
_log = logging.getLogger(__name__)


def models_folder(root: Path, bundle_id: str) -> Path:
    """Where the cloud's own side of a bundle lies: the checkpoint that it was compiled from."""
    return root / "models" / bundle_id


class AnnouncedFile:
    """What a cloud announced last, by method: where it goes back to when a release is no good."""

    def __init__(self, root: Path) -> None:
        self._path = root / "announced.json"

    def read(self) -> dict[str, str]:
        """Bundle id by method; nothing where no cloud has served this folder."""
        return dict(json.loads(self._path.read_text())) if self._path.exists() else {}

    def write(self, announced: Mapping[str, str]) -> None:
        """Remember it, all or nothing; in a folder that nobody may write to, it is not."""
        if self.read() == announced:
            return
        draft = self._path.with_name(".announced.draft")
        try:
            draft.write_text(json.dumps(announced, sort_keys=True))
            draft.replace(self._path)
        except OSError as error:
            _log.warning("what is announced is not remembered: %s", error)


class Bundles:
    """A folder of bundles, some of them released; what is released later is noticed.

    What is released is proved before it is announced. One that fails is taken back: what was
    announced last becomes the released bundle again, also for the next cloud on this folder.

    Args:
        root: the folder.
        proof: raises a `ConcertoError` for a bundle that no device should run.

    Raises:
        PathMissing: there is no such folder, or nothing in it is released.
    """

    def __init__(self, root: Path, proof: Callable[[Bundle], None] = prove) -> None:
        if not root.is_dir():
            raise PathMissing(root, "folder of bundles")
        self.root = root
        self._store, self._proof = BundleStore(root), proof
        self._announced = AnnouncedFile(root)
        self._seen: Mapping[str, str] = self._store.released()
        self._released: Mapping[str, str] = self._seen
        if not self._released:
            raise PathMissing(root / "released.json", "release: train or export a model first")
        self._changed = asyncio.Condition()
        self._packed: dict[str, bytes] = {}
        self._packing = asyncio.Lock()

    @property
    def released(self) -> Mapping[str, str]:
        """Bundle id by method, as last seen."""
        return self._released

    def read(self, bundle_id: str) -> Bundle:
        """Read a bundle from disk and check every byte; not for the event loop.

        Raises:
            UnknownBundle: it is not here.
        """
        if not _BUNDLE_ID.fullmatch(bundle_id):
            raise UnknownBundle(bundle_id[:64])
        return self._store.get(bundle_id)

    async def chunks(self, bundle_id: str, offset: int) -> AsyncIterator[Chunk]:
        """The packed bundle from byte ``offset`` on; at its very end, one empty chunk.

        Raises:
            UnknownBundle: it is not here.
            BadAsk: ``offset`` lies beyond its end.
        """
        data = await self._pack(bundle_id)
        total = len(data)
        if offset > total:
            raise BadAsk(f"offset {offset} lies beyond the end of the bundle, {total}")
        for start in range(offset, max(total, offset + 1), CHUNK_BYTES):
            yield Chunk(offset=start, data=data[start : start + CHUNK_BYTES], total=total)

    async def releases(self, method: str) -> AsyncIterator[Release]:
        """What is released for ``method`` (empty: the only one), and each release from now on.

        Raises:
            UnknownName: nothing is released for ``method``.
            BadAsk: ``method`` is empty and there are several.
        """
        name, announced = self._one_method(method), ""
        while True:
            seen = self._released
            if (bundle_id := seen.get(name, announced)) != announced:
                announced = bundle_id
                yield Release(method=name, bundle_id=bundle_id)
            async with self._changed:
                while self._released is seen:
                    await self._changed.wait()

    async def settle(self) -> None:
        """Prove what is released before any device is told of it.

        Raises:
            BundleError: it is no good, and it is not known what was before it.
        """
        known = self._announced.read()
        self._released = await asyncio.to_thread(self._vetted, self._seen, known, strict=True)

    async def watch(self, every: float) -> None:
        """Look for new releases each ``every`` seconds, for ever."""
        while True:
            await asyncio.sleep(every)
            await self.refresh()

    async def refresh(self) -> None:
        """Look for new releases now."""
        released = await asyncio.to_thread(self._store.released)
        if released == self._seen:
            return
        self._seen = released
        failpoint("release.noticed")
        vetted = await asyncio.to_thread(self._vetted, released, self._released)
        failpoint("release.checked")
        if vetted != self._released:
            for method, bundle_id in sorted(vetted.items() - self._released.items()):
                note(_log, "released", method=method, bundle=bundle_id)
            async with self._changed:
                self._released = vetted
                self._changed.notify_all()

    def _vetted(
        self, released: Mapping[str, str], good: Mapping[str, str], *, strict: bool = False
    ) -> Mapping[str, str]:
        """What may be announced: what is released, or where that is no good, what was before it.

        Raises:
            BundleError: ``strict``, a bundle is no good, and there was none before it; otherwise
                its method is left out.
        """
        vetted = dict(released)
        for method, bundle_id in released.items():
            if good.get(method) == bundle_id:
                continue
            try:
                self._proof(self.read(bundle_id))
            except ConcertoError as error:
                if method not in good:
                    if strict:
                        raise
                    del vetted[method]
                    _log.error("release %s of %s is refused: %s", bundle_id[:12], method, error)
                    continue
                vetted[method] = good[method]
                told = (bundle_id[:12], method, error, good[method][:12])
                _log.error("release %s of %s is refused: %s; %s stays", *told)
                self._store.take_back(method, bundle_id, good[method])
        self._announced.write(vetted)
        return vetted

    async def _pack(self, bundle_id: str) -> bytes:
        """The bundle's bytes on the wire; the last few asked for are kept."""
        async with self._packing:
            data = self._packed.pop(bundle_id, None)
            if data is None:
                data = await asyncio.to_thread(lambda: pack(self.read(bundle_id)))
            self._packed[bundle_id] = data
            while len(self._packed) > _PACKED_KEPT:
                self._packed.pop(next(iter(self._packed)))
        return data

    def _one_method(self, method: str) -> str:
        if not method and len(self._released) == 1:
            return next(iter(self._released))
        if not method:
            raise BadAsk(f"name a method, one of {', '.join(sorted(self._released))}")
        if method not in self._released:
            raise UnknownName("method", method, self._released)
        return method
