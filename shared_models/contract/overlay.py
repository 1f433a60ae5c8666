"""Slot values for one device, and the rule by which a device believes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from protos.v1 import collaboration_pb2
from shared_models.contract.errors import SlotMismatch
from shared_models.contract.tensors import (
    Codec,
    Float32Array,
    TensorSpec,
    tensor_from_proto,
    tensor_to_proto,
)


class Kept(NamedTuple):
    """A vector in the cloud's memory: how often it was written, and `history.digest` of it."""

    version: int
    digest: int


@dataclass(frozen=True, slots=True)
class Overlay:
    """Values for some slots of one bundle.

    Attributes:
        bundle_id: the bundle whose slots these are.
        events_seen: events of the user that had happened when the uplink was made; also the
            overlay's version, since a later uplink has seen more.
        slots: float32 arrays by slot name.
        group: the user's group from 1 on; 0 where the bundle has none.
        events_stored: of the user in the cloud's journal, where the uplink brought some.
        version: of what a group shares, from 0 on.
        kept: what the cloud remembers of the user since this refresh, where it was asked to say.
    """

    bundle_id: str
    events_seen: int
    slots: Mapping[str, Float32Array]
    group: int = 0
    events_stored: int = 0
    version: int = 0
    kept: Kept | None = None

    def age(self, events_now: int) -> int:
        """Events since the window that made this overlay."""
        return events_now - self.events_seen

    def check(self, specs: Sequence[TensorSpec]) -> None:
        """Refuse values that do not fit.

        Raises:
            SlotMismatch: an undeclared slot, another shape, or a number that is not finite.
        """
        declared = {spec.name: spec for spec in specs}
        for name, array in self.slots.items():
            spec = declared.get(name)
            if spec is None:
                raise SlotMismatch(name, "no value: the bundle has no such slot", array.shape)
            if array.shape != spec.shape:
                raise SlotMismatch(name, spec, array.shape)
            if not np.isfinite(array).all():
                raise SlotMismatch(name, "finite numbers", "nan or inf")


def overlay_to_proto(overlay: Overlay, codec: Codec) -> collaboration_pb2.Overlay:
    """Write an overlay; what the device knows without it, bundle and uplink, is not repeated."""
    kept = overlay.kept
    return collaboration_pb2.Overlay(
        slots=[tensor_to_proto(name, array, codec) for name, array in overlay.slots.items()],
        group=overlay.group,
        events_stored=overlay.events_stored,
        version=overlay.version,
        kept=collaboration_pb2.Kept(version=kept.version, digest=kept.digest) if kept else None,
    )


def overlay_from_proto(
    message: collaboration_pb2.Overlay, bundle_id: str, events_seen: int
) -> Overlay:
    """Read an overlay for ``bundle_id``, that answers an uplink made ``events_seen`` events on."""
    slots = {tensor.name: tensor_from_proto(tensor) for tensor in message.slots}
    kept = Kept(message.kept.version, message.kept.digest) if message.HasField("kept") else None
    told = message.group, message.events_stored, message.version, kept
    return Overlay(bundle_id, events_seen, slots, *told)
