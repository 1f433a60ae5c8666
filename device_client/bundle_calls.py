"""What a device process asks before any device can rank: which bundle, and its bytes."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from google.protobuf.message import Message
from grpc import aio

from device_client.backoff import delays
from device_client.cloud import Piece
from device_client.ledger import DeviceLedger
from device_client.sessions import translated
from protos.v1 import collaboration_pb2
from protos.v1.collaboration_pb2 import BundleRequest, Chunk, Release, ReleasesRequest
from shared_models.contract.errors import (
    BundleCorrupt,
    CloudUnavailable,
    InputError,
    UnknownBundle,
)
from shared_models.contract.traffic import BUNDLE

ByteStream = aio.UnaryStreamCall[bytes, bytes]
ByteStreams = aio.UnaryStreamMultiCallable[bytes, bytes]
SERVICE: Final = collaboration_pb2.DESCRIPTOR.services_by_name["Collaboration"].full_name
_BREAKS: Final = 5


class BundleCalls:
    """Releases and bundles of a cloud; patient, since nothing works without them.

    Args:
        address: of the cloud, for messages.
        channel: to it.
        ledger: counts every payload byte.
        patience_s: seconds that each message may take.
    """

    def __init__(
        self, address: str, channel: aio.Channel, ledger: DeviceLedger, patience_s: float
    ) -> None:
        self._address, self._channel = address, channel
        self._ledger, self._patience_s = ledger, patience_s
        # Messages cross as bytes: whoever serialises them counts them, exactly once.
        self._fetch: ByteStreams = channel.unary_stream(f"/{SERVICE}/FetchBundle")
        self._watch: ByteStreams = channel.unary_stream(f"/{SERVICE}/WatchReleases")

    async def released(self, method: str, seed: int = 0) -> str:
        """Id of the released bundle; ``seed`` spreads the retries.

        Raises:
            CloudUnavailable: nobody answers at the address.
            InputError: the cloud has none of this method.
        """
        return await self._announcement(method, lambda _: True, seed)

    async def announced(self, method: str, bundle_id: str, seed: int = 0) -> None:
        """Wait until ``bundle_id`` is what the cloud has released.

        Raises:
            CloudUnavailable: it was not announced in time, or nobody answers.
            InputError: the cloud has nothing of this method.
        """
        await self._announcement(method, lambda announced: announced == bundle_id, seed)

    async def _announcement(self, method: str, is_wanted: Callable[[str], bool], seed: int) -> str:
        """The first announcement that is wanted; a stream that breaks is opened again."""
        waits = delays(seed)
        for left in reversed(range(_BREAKS)):
            try:
                async with aclosing(self._releases(method)) as releases:
                    async for bundle_id in releases:
                        if is_wanted(bundle_id):
                            return bundle_id
            except CloudUnavailable as error:
                # Who stayed away for so long is not waited for once more.
                if not left or isinstance(error.__cause__, TimeoutError):
                    raise
            await asyncio.sleep(next(waits))
        raise CloudUnavailable(f"the cloud at {self._address} does not announce what is wanted")

    async def _releases(self, method: str) -> AsyncGenerator[str, None]:
        """Ids of what is released, then of each release from now on."""
        request = ReleasesRequest(method=method)
        absent = InputError(f"the cloud at {self._address} has released no bundle of {method!r}")
        with translated(self._address, NOT_FOUND=absent):
            async with aclosing(self._stream(self._watch, request)) as releases:
                async for data in releases:
                    yield Release.FromString(data).bundle_id

    async def fetch_bundle(self, bundle_id: str, offset: int) -> AsyncGenerator[Piece, None]:
        """The packed bytes of a bundle, from ``offset`` on.

        Raises:
            CloudUnavailable: nobody answers, or the stream broke.
            UnknownBundle: the cloud does not have it.
            BundleCorrupt: the cloud's own copy is damaged.
        """
        request = BundleRequest(id=bundle_id, offset=offset)
        refusals = {
            "NOT_FOUND": UnknownBundle(bundle_id),
            "DATA_LOSS": BundleCorrupt(f"the cloud's copy of {bundle_id[:12]} is damaged"),
        }
        with translated(self._address, **refusals):
            async for data in self._stream(self._fetch, request):
                chunk = Chunk.FromString(data)
                yield Piece(chunk.offset, chunk.data, chunk.total)

    async def _stream(self, call: ByteStreams, request: Message) -> AsyncGenerator[bytes, None]:
        """The messages of a server's stream, each within ``connect_s``."""
        async with asyncio.timeout(self._patience_s):
            await self._channel.channel_ready()
        data = request.SerializeToString()
        stream = call(data)
        self._ledger.sent(None, BUNDLE, len(data))
        self._ledger.streams.opened += 1
        try:
            while isinstance(reply := await self._read(stream), bytes):
                self._ledger.received(None, BUNDLE, len(reply))
                self._ledger.streams.pieces += 1
                yield reply
        except (TimeoutError, aio.AioRpcError, asyncio.InvalidStateError):
            self._ledger.streams.broken += 1
            raise
        finally:
            stream.cancel()

    async def _read(self, stream: ByteStream) -> object:
        async with asyncio.timeout(self._patience_s):
            return await stream.read()
