"""The service as gRPC sees it. Handlers translate; they neither think nor compute."""

from collections.abc import AsyncIterator
from typing import Any

from grpc import aio
from typing_extensions import override

from cloud_server.bundles import Bundles
from cloud_server.session import Services, Session
from cloud_server.statuses import as_status
from protos.v1.collaboration_pb2 import (
    Answer,
    Ask,
    BundleRequest,
    Chunk,
    Release,
    ReleasesRequest,
)
from protos.v1.collaboration_pb2_grpc import CollaborationServicer

Context = aio.ServicerContext[Any, Any]


class Collaboration(CollaborationServicer):
    """What a device may ask of its cloud."""

    def __init__(self, services: Services, bundles: Bundles) -> None:
        self._services, self._bundles = services, bundles

    @override
    async def Session(
        self, request_iterator: AsyncIterator[Ask], context: object
    ) -> AsyncIterator[Answer]:
        """Answer the asks of one device, one after the other."""
        session = Session(self._services)
        async for ask in request_iterator:
            yield await session.answer(ask)

    @override
    async def FetchBundle(self, request: BundleRequest, context: Context) -> AsyncIterator[Chunk]:
        """Stream a packed bundle from any byte on."""
        async with as_status(context):
            async for chunk in self._bundles.chunks(request.id, request.offset):
                yield chunk

    @override
    async def WatchReleases(
        self, request: ReleasesRequest, context: Context
    ) -> AsyncIterator[Release]:
        """Announce what is released, then every change."""
        async with as_status(context):
            async for release in self._bundles.releases(request.method):
                yield release
