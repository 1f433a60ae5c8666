"""The service as gRPC sees it. Handlers translate; they neither think nor compute.

Messages cross as bytes, so that they are counted where they are parsed and written.
"""

from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from cloud_server.bundles import Bundles
from cloud_server.failpoints import failpoint
from cloud_server.identity import Gate
from cloud_server.limits import room_for
from cloud_server.services import Services
from cloud_server.session import Session
from cloud_server.statuses import as_status
from protos.v1 import collaboration_pb2
from protos.v1.collaboration_pb2 import BundleRequest, Chunk, Release, ReleasesRequest
from shared_models.contract.errors import BadAsk
from shared_models.contract.traffic import BUNDLE

Context = aio.ServicerContext[bytes, bytes]
SERVICE: Final = collaboration_pb2.DESCRIPTOR.services_by_name["Collaboration"].full_name
R = TypeVar("R", BundleRequest, ReleasesRequest)


class Collaboration:
    """What a device may ask of its cloud.

    Args:
        services: of all sessions.
        bundles: what is there to fetch.
        gate: says whose a session is.
    """

    def __init__(self, services: Services, bundles: Bundles, gate: Gate) -> None:
        self._services, self._bundles, self._gate = services, bundles, gate

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

    async def session(self, asks: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Answer the asks of one device, one after the other."""
        async with as_status(context):
            room_for(self._services.counts.sessions, self._services.most_sessions)
        session = Session(self._services, self._gate.prover(context.auth_context()))
        self._services.counts.sessions += 1
        try:
            async for data in asks:
                yield await session.reply(data)
                failpoint("answer.sent")
        finally:
            session.end()
            self._services.counts.sessions -= 1

    async def fetch_bundle(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Stream a packed bundle from any byte on."""
        async with as_status(context):
            wanted = _read(BundleRequest, request)
            self._count(up=len(request))
            async for chunk in self._bundles.chunks(wanted.id, wanted.offset):
                yield self._written(chunk)
                failpoint("bundle.chunk")

    async def watch_releases(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Announce what is released, then every change."""
        async with as_status(context):
            wanted = _read(ReleasesRequest, request)
            self._count(up=len(request))
            async for release in self._bundles.releases(wanted.method):
                yield self._written(release)
                failpoint("release.announced")

    def _written(self, message: Chunk | Release) -> bytes:
        data = message.SerializeToString()
        self._count(down=len(data))
        return data

    def _count(self, *, up: int = 0, down: int = 0) -> None:
        self._services.ledger.enter(None, BUNDLE, 0, (up, down), None)
        self._services.counts.carried(BUNDLE, up, down)


def _read(kind: type[R], request: bytes) -> R:
    """The request of a call.

    Raises:
        BadAsk: it is none.
    """
    try:
        return kind.FromString(request)
    except DecodeError as error:
        raise BadAsk("the request is no message of this protocol") from error
