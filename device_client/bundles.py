"""Bundles on the device: fetched once, resumed at any byte, checked before they are kept."""

import asyncio
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import IO, Final

from device_client.backoff import delays
from device_client.cloud import Cloud
from shared_models.contract.bundle import LARGEST, Bundle, BundleStore, unpack
from shared_models.contract.errors import (
    BadSetting,
    BundleCorrupt,
    CloudUnavailable,
    PathMissing,
    UnknownBundle,
)

_DAMAGED_DOWNLOADS: Final = 3
_BREAKS_IN_A_ROW: Final = 5
_log = logging.getLogger(__name__)


class BundleCache:
    """A folder of bundles, which several device processes may share.

    Args:
        root: the folder; made when the first bundle comes.
        seed: spreads the retries of processes that lost the cloud at the same time.
        largest: bytes of a bundle, packed or not, of which no more is read.
    """

    def __init__(self, root: Path, seed: int = 0, largest: int = LARGEST) -> None:
        self._root, self._seed, self._largest = root, seed, largest
        self._store = BundleStore(root)

    async def obtain(self, bundle_id: str, cloud: Cloud) -> Bundle:
        """The bundle, out of the folder or from the cloud.

        Raises:
            BadSetting: the folder cannot be read or written.
            BundleCorrupt: every download came damaged.
            CloudUnavailable: it is not here, and the cloud does not give it.
            UnknownBundle: it is not here, and the cloud does not have it.
        """
        try:
            return await self._obtained(bundle_id, cloud)
        except OSError as error:
            words = f"{self._root} cannot be used: {error.strerror}. Name another folder"
            raise BadSetting("device.bundles", words) from error

    async def _obtained(self, bundle_id: str, cloud: Cloud) -> Bundle:
        try:
            return self._store.get(bundle_id)
        except UnknownBundle:
            pass
        except (BundleCorrupt, PathMissing) as error:
            _log.warning("%s; it is fetched again", error)
            self._store.discard(bundle_id)
        bundle = await self._fetched(bundle_id, cloud)
        self._store.add(bundle)
        return bundle

    async def _fetched(self, bundle_id: str, cloud: Cloud) -> Bundle:
        for left in reversed(range(_DAMAGED_DOWNLOADS)):
            try:
                return unpack(await self._download(bundle_id, cloud), bundle_id, self._largest)
            except BundleCorrupt as error:
                if not left:
                    raise
                _log.warning("%s; it is fetched again", error)
        raise AssertionError("the last try returns or raises")

    async def _download(self, bundle_id: str, cloud: Cloud) -> bytes:
        """All bytes of a packed bundle; a broken stream is resumed where it broke."""
        self._root.mkdir(parents=True, exist_ok=True)
        # Without a name no process can touch another's, and nothing is left behind by a kill.
        with tempfile.TemporaryFile(dir=self._root) as part:
            await _fill(part, bundle_id, cloud, self._largest, lambda: delays(self._seed))
            part.seek(0)
            return part.read()


async def _fill(
    part: IO[bytes],
    bundle_id: str,
    cloud: Cloud,
    largest: int,
    patience: Callable[[], Iterator[float]],
) -> None:
    """Append the bundle's bytes to ``part`` until all are there, however often the stream breaks.

    Raises:
        CloudUnavailable: it broke too often without a new byte.
    """
    breaks, waits = 0, patience()
    while True:
        start = part.tell()
        try:
            await _append(part, bundle_id, cloud, largest)
        except CloudUnavailable as error:
            if part.tell() > start:
                breaks, waits = 0, patience()
            breaks += 1
            if breaks >= _BREAKS_IN_A_ROW:
                raise
            _log.info("%s; resumed at byte %d", error, part.tell())
        else:
            return
        await asyncio.sleep(next(waits))


async def _append(part: IO[bytes], bundle_id: str, cloud: Cloud, largest: int) -> None:
    """Append what the cloud sends from here on.

    Raises:
        BundleCorrupt: a piece does not join the last one, or there would be too many.
        CloudUnavailable: the stream broke or ended before the last byte.
    """
    async with aclosing(cloud.fetch_bundle(bundle_id, part.tell())) as pieces:
        async for piece in pieces:
            if piece.offset != part.tell():
                raise BundleCorrupt(f"bundle {bundle_id[:12]}: a piece of the download is missing")
            if max(piece.total, piece.offset + len(piece.data)) > largest:
                raise BundleCorrupt(f"bundle {bundle_id[:12]}: it is larger than {largest} bytes")
            part.write(piece.data)
            if part.tell() >= piece.total:
                return
    raise CloudUnavailable(f"the cloud ended bundle {bundle_id[:12]} at byte {part.tell()}")
