"""The service as gRPC sees it. Handlers translate; they neither think nor compute.

Messages cross as bytes, so that they are counted where they are parsed and written.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from grpc import aio

from cloud_server.bundles import Bundles
from cloud_server.session import Services, Session
from cloud_server.statuses import as_status
from protos.v1 import collaboration_pb2
from protos.v1.collaboration_pb2 import BundleRequest, Chunk, Release, ReleasesRequest
from shared_models.contract.traffic import BUNDLE

Context = aio.ServicerContext[bytes, bytes]
SERVICE: Final = collaboration_pb2.DESCRIPTOR.services_by_name["Collaboration"].full_name


class Collaboration:
    """What a device may ask of its cloud."""

    def __init__(self, services: Services, bundles: Bundles) -> None:
        self._services, self._bundles = services, bundles

    def add_to(self, server: aio.Server) -> None:
        """Answer for the service ``Collaboration``."""
        # Any: the types of grpc know these handlers for servers with threads only.
        stream: Any = grpc.stream_stream_rpc_method_handler
        call: Any = grpc.unary_stream_rpc_method_handler
        handlers = {
            "Session": stream(self.session),
            "FetchBundle": call(self.fetch_bundle),
            "WatchReleases": call(self.watch_releases),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def session(self, asks: AsyncIterator[bytes], _: Context) -> AsyncIterator[bytes]:
        """Answer the asks of one device, one after the other."""
        session = Session(self._services)
        async for data in asks:
            yield await session.reply(data)

    async def fetch_bundle(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Stream a packed bundle from any byte on."""
        async with as_status(context):
            wanted = BundleRequest.FromString(request)
            self._count(up=len(request))
            async for chunk in self._bundles.chunks(wanted.id, wanted.offset):
                yield self._written(chunk)

    async def watch_releases(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Announce what is released, then every change."""
        async with as_status(context):
            wanted = ReleasesRequest.FromString(request)
            self._count(up=len(request))
            async for release in self._bundles.releases(wanted.method):
                yield self._written(release)

    def _written(self, message: Chunk | Release) -> bytes:
        data = message.SerializeToString()
        self._count(down=len(data))
        return data

    def _count(self, *, up: int = 0, down: int = 0) -> None:
        self._services.ledger.enter(None, BUNDLE, 0, (up, down), None)
