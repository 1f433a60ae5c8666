"""Slot values for single devices: refreshes go in, overlays come out, many at a time."""

from collections.abc import Sequence

from torch import nn

from cloud_server.batcher import Batcher, Stay, padded_rows
from cloud_server.settings import ServeSettings
from protos.v1 import collaboration_pb2
from shared_models.contract.errors import BundleIncompatible
from shared_models.contract.features import encode_windows
from shared_models.contract.manifest import Manifest
from shared_models.contract.overlay import Overlay, overlay_to_proto
from shared_models.contract.tensors import Int64Array
from shared_models.method import Personalizes


class Personalizer:
    """Writes the slots of one bundle.

    Args:
        method: what can write them.
        model: its trained module.
        bundle_id: whose slots they are.
        manifest: of that bundle.
        settings: codec, and how many refreshes share a pass or wait.

    Raises:
        BundleIncompatible: the manifest names no uplink, so nothing could be asked.
    """

    def __init__(
        self,
        method: Personalizes,
        model: nn.Module,
        bundle_id: str,
        manifest: Manifest,
        settings: ServeSettings,
    ) -> None:
        if manifest.uplink is None:
            raise BundleIncompatible(f"bundle {bundle_id[:12]} has slots to write, but no uplink")
        self._method, self._model, self._bundle_id = method, model, bundle_id
        self._features, self._length = manifest.features, manifest.uplink.items
        self._codec = settings.codec
        self._batcher = Batcher(
            self._overlays, largest=settings.largest_batch, room=settings.room, name="personalize"
        )

    async def overlay_for(
        self,
        refresh: collaboration_pb2.Refresh,
        *,
        waits: bool,
        expires: float | None,
        stay: Stay | None = None,
    ) -> collaboration_pb2.Overlay:
        """The overlay that ``refresh`` asks for, encoded.

        Raises:
            Overloaded: too many wait, and ``waits`` is false.
            CloudUnavailable: it expired.
        """
        return await self._batcher.submit(refresh, waits=waits, expires=expires, stay=stay)

    async def close(self) -> None:
        """Answer what waits."""
        await self._batcher.close()

    def _overlays(
        self, refreshes: Sequence[collaboration_pb2.Refresh]
    ) -> list[collaboration_pb2.Overlay]:
        slots = self._method.personalize(self._model, self._uplinks(refreshes))
        return [
            overlay_to_proto(
                Overlay(
                    self._bundle_id,
                    refresh.events_seen,
                    {name: values[row] for name, values in slots.items()},
                ),
                self._codec,
            )
            for row, refresh in enumerate(refreshes)
        ]

    def _uplinks(self, refreshes: Sequence[collaboration_pb2.Refresh]) -> Int64Array:
        """The uplinks as int64 (B, n), B a multiple of 8, newest last and right-padded."""
        windows = encode_windows([refresh.items for refresh in refreshes], self._length)
        return padded_rows(self._features.known(windows))
