"""Slot values for single devices: refreshes go in, overlays come out, many at a time."""

# Shapes: B refreshes, N items of an uplink, W neighbours, D width of what is remembered.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from cloud_server.batcher import Batcher, Stay, padded_rows
from cloud_server.remembered import Remembered
from cloud_server.settings import ServeSettings
from protos.v1 import collaboration_pb2
from shared_models.contract.errors import BundleIncompatible
from shared_models.contract.features import encode_windows
from shared_models.contract.history import digest
from shared_models.contract.manifest import Manifest
from shared_models.contract.overlay import Kept, Overlay, overlay_to_proto
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.contract.uplink import outputs_of
from shared_models.method import Personalization, Personalizes, Uplinks


@dataclass(frozen=True, slots=True)
class Asked:
    """A refresh and who wants it.

    Attributes:
        user: whose device asks.
        round: of the replay, 0 outside.
        items: of the uplink, newest last.
        outputs: float32 (D,) of the encoder by name.
        stored: events of the user in the journal, where the refresh brought some.
        audit: whether the answer says what is remembered.
    """

    user: int
    round: int
    items: Sequence[int] = ()
    outputs: dict[str, Float32Array] | None = None
    stored: int = 0
    audit: bool = False


class Personalizer:
    """Writes the slots of one bundle.

    Args:
        method: what can write them.
        model: its trained module.
        bundle_id: whose slots they are.
        manifest: of that bundle.
        settings: codec, and how many refreshes share a pass or wait.
        remembered: of users, where the manifest says that something is.

    Attributes:
        batcher: of refreshes.

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
        remembered: Remembered,
    ) -> None:
        if manifest.uplink is None:
            raise BundleIncompatible(f"bundle {bundle_id[:12]} has slots to write, but no uplink")
        self._method, self._model, self._bundle_id = method, model, bundle_id
        self._features, self._uplink = manifest.features, manifest.uplink
        self._widths = _widths(manifest)
        self._codec, self._remembered = settings.codec, remembered
        self.batcher = Batcher(
            self._overlays, largest=settings.largest_batch, room=settings.room, name="personalize"
        )

    def read(
        self,
        user: int,
        round_: int,
        refresh: collaboration_pb2.Refresh,
        stored: int,
        *,
        audit: bool = False,
    ) -> Asked:
        """What a refresh asks.

        Raises:
            BadAsk: its outputs are not those of the bundle's encoder.
        """
        outputs = outputs_of(refresh, self._widths) if self._widths else None
        return Asked(user, round_, tuple(refresh.items), outputs, stored, audit)

    async def overlay_for(
        self, asked: Asked, *, waits: bool, expires: float | None, stay: Stay | None = None
    ) -> collaboration_pb2.Overlay:
        """The overlay that is asked for, encoded.

        Raises:
            Overloaded: too many wait, and ``waits`` is false.
            CloudUnavailable: it expired.
        """
        return await self.batcher.submit(asked, waits=waits, expires=expires, stay=stay)

    async def close(self) -> None:
        """Answer what waits."""
        await self.batcher.close()

    def _overlays(self, asked: Sequence[Asked]) -> list[collaboration_pb2.Overlay]:
        found = self._method.personalize(self._model, self._uplinks(asked))
        kept = {} if found.memory_BD is None else self._keep(asked, found.memory_BD)
        return [
            self._overlay(found, row, each, kept.get(each.user) if each.audit else None)
            for row, each in enumerate(asked)
        ]

    def _overlay(
        self, found: Personalization, row: int, asked: Asked, kept: Kept | None
    ) -> collaboration_pb2.Overlay:
        slots = {name: values[row] for name, values in found.slots.items()}
        group = 0 if found.groups_B is None else int(found.groups_B[row])
        overlay = Overlay(self._bundle_id, 0, slots, group, asked.stored, kept=kept)
        return overlay_to_proto(overlay, self._codec)

    def _uplinks(self, asked: Sequence[Asked]) -> Uplinks:
        """What came up and what is known besides, B a multiple of 8."""
        users_B = np.array([each.user for each in asked], np.int64)
        outputs = {
            name: padded_rows(np.stack([(each.outputs or {})[name] for each in asked]))
            for name in self._widths
        }
        items_BN = padded_rows(self._features.known(self._items(asked, users_B)))
        if not self._remembered.neighbours:
            return Uplinks(items_BN, outputs)
        rounds_B = np.array([each.round for each in asked], np.int64)
        others_BWD, known_BW = self._remembered.others(users_B, rounds_B)
        return Uplinks(items_BN, outputs, padded_rows(others_BWD), padded_rows(known_BW))

    def _items(self, asked: Sequence[Asked], users_B: Int64Array) -> Int64Array:
        """The newest items of each user (B, N), newest last and right-padded."""
        if self._uplink.pending:
            return self._remembered.histories(users_B, self._uplink.items)
        return encode_windows([each.items for each in asked], self._uplink.items)

    def _keep(self, asked: Sequence[Asked], memory_BD: Float32Array) -> dict[int, Kept]:
        """Remember the vectors; of each user who wants to know, what is kept then."""
        # A user whose old session still waits may come twice; the later ask is the newer one.
        last = {each.user: row for row, each in enumerate(asked)}
        rows = list(last.values())
        rounds = {asked[row].round for row in rows}
        kept: dict[int, Kept] = {}
        for round_ in sorted(rounds):
            of_round = [row for row in rows if asked[row].round == round_]
            users_B = np.array([asked[row].user for row in of_round], np.int64)
            versions = self._remembered.keep(users_B, memory_BD[of_round], round_).tolist()
            for row, version in zip(of_round, versions, strict=True):
                if asked[row].audit:
                    kept[asked[row].user] = Kept(
                        version, digest(memory_BD[row].astype("<f4").tobytes())
                    )
        return kept


def _widths(manifest: Manifest) -> dict[str, int]:
    """Width of each output that goes up, by name."""
    if manifest.uplink is None or not manifest.uplink.outputs:
        return {}
    ports = {port.name: port for port in manifest.graphs["encoder"].outputs}
    return {name: int(ports[name].shape[1]) for name in manifest.uplink.outputs}
