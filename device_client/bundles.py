"""Bundles on a device: downloaded with resume, checked byte by byte, fetched again if damaged."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from grpc import aio

from device_client.channel import LOST, error_of_call, wait_until_ready
from device_client.ledger import Ledger, Purpose
from protos.v1.collaboration_pb2 import BundleRequest, Release, ReleasesRequest
from protos.v1.collaboration_pb2_grpc import CollaborationStub
from shared_models.contract.bundle import Bundle, BundleStore, unpack
from shared_models.contract.errors import BundleCorrupt, UnknownBundle

if TYPE_CHECKING:
    from protos.v1.collaboration_pb2_grpc import CollaborationAsyncStub

_DAMAGED_DOWNLOADS: Final = 3
_PAUSE_S: Final = 0.1


class BundleFetcher:
    """`device_client.cloud.BundleSource` over one channel.

    Args:
        channel: to the cloud.
        address: for messages to people.
        folder: where bundles are kept; device processes may share it.
        ledger: the process's.
        patience_s: seconds to wait for a cloud.
    """

    def __init__(
        self, channel: aio.Channel, address: str, folder: Path, ledger: Ledger, patience_s: float
    ) -> None:
        self._channel, self._address = channel, address
        self._stub: CollaborationAsyncStub = CollaborationStub(channel)
        self._folder, self._store = folder, BundleStore(folder)
        self._ledger, self._patience_s = ledger, patience_s

    async def released(self, method: str) -> str:
        """Id of the bundle that devices of ``method`` should run.

        Raises:
            CloudUnavailable: nothing answers.
            UnknownBundle: nothing is released for it.
        """
        await wait_until_ready(self._channel, self._address, self._patience_s)
        request = ReleasesRequest(method=method)
        call = self._stub.WatchReleases(request)
        try:
            release = await call.read()
        except LOST as error:
            raise error_of_call(error, self._address) from error
        finally:
            call.cancel()
        if not isinstance(release, Release):
            raise UnknownBundle(f"released for {method}")
        self._count(request.ByteSize(), release.ByteSize())
        return release.bundle_id

    async def fetch_bundle(self, bundle_id: str) -> Bundle:
        """The bundle, from here or from the cloud.

        Raises:
            UnknownBundle: the cloud does not have it.
            BundleCorrupt: it came damaged every time.
            CloudUnavailable: nothing answers.
        """
        try:
            return self._store.get(bundle_id)
        except UnknownBundle:
            pass
        except BundleCorrupt:
            self._store.discard(bundle_id)
        for _ in range(_DAMAGED_DOWNLOADS):
            try:
                bundle = unpack(await self._download(bundle_id), bundle_id)
            except BundleCorrupt:
                continue
            self._store.add(bundle)
            return bundle
        raise BundleCorrupt(f"bundle {bundle_id[:12]} came damaged every time")

    async def _download(self, bundle_id: str) -> bytes:
        """The packed bundle; a broken download goes on at its last byte."""
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f".{bundle_id}.{os.getpid()}.part"
        part.write_bytes(b"")
        try:
            while not await self._downloaded(bundle_id, part):
                await asyncio.sleep(_PAUSE_S)
                await wait_until_ready(self._channel, self._address, self._patience_s)
            return part.read_bytes()
        finally:
            part.unlink(missing_ok=True)

    async def _downloaded(self, bundle_id: str, part: Path) -> bool:
        """Append what comes to ``part``; whether that is all."""
        have, total = part.stat().st_size, -1
        request = BundleRequest(id=bundle_id, offset=have)
        self._count(request.ByteSize(), 0)
        try:
            with part.open("ab") as file:
                async for chunk in self._stub.FetchBundle(request):
                    if chunk.offset != have:
                        raise BundleCorrupt(f"byte {chunk.offset} came instead of {have}")
                    have += file.write(chunk.data)
                    total = chunk.total
                    self._count(0, chunk.ByteSize())
        except LOST as error:
            broken = error_of_call(error, self._address)
            if isinstance(broken, UnknownBundle):
                raise broken from error
            return False
        return have == total

    def _count(self, up: int, down: int) -> None:
        if up:
            self._ledger.sent(None, Purpose.BUNDLE, up)
        self._ledger.received(None, Purpose.BUNDLE, down)
