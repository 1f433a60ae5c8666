"""What a refresh sends up, on its way through the wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from protos.v1 import collaboration_pb2
from shared_models.contract.errors import BadAsk
from shared_models.contract.events import EventBatch
from shared_models.contract.tensors import (
    Codec,
    Float32Array,
    tensor_from_proto,
    tensor_to_proto,
)

_CODEC: Final = Codec.F16


@dataclass(frozen=True, slots=True)
class Uplink:
    """What the manifest's `UplinkSpec` names.

    Attributes:
        items: ids, newest last.
        outputs: float32 (D,) of the encoder by name; then there are no items.
        pending: events that the cloud lacks; then there are no items either.
    """

    items: Sequence[int] = ()
    outputs: Mapping[str, Float32Array] = field(default_factory=dict)
    pending: EventBatch | None = None


def refresh_to_proto(uplink: Uplink, events_seen: int) -> collaboration_pb2.Refresh:
    """Write a refresh.

    Where outputs go up nothing else does: even how many events there were would tell of them.
    """
    if uplink.outputs:
        return collaboration_pb2.Refresh(
            outputs=[tensor_to_proto(name, v, _CODEC) for name, v in uplink.outputs.items()]
        )
    pending = None if uplink.pending is None else upload_to_proto(uplink.pending)
    return collaboration_pb2.Refresh(items=uplink.items, events_seen=events_seen, pending=pending)


def upload_to_proto(batch: EventBatch) -> collaboration_pb2.Upload:
    """Write events."""
    return collaboration_pb2.Upload(
        first=batch.first,
        items=[event.item for event in batch.events],
        times=[event.at for event in batch.events],
    )


def outputs_of(
    refresh: collaboration_pb2.Refresh, widths: Mapping[str, int]
) -> dict[str, Float32Array]:
    """Read the outputs of a refresh.

    Args:
        refresh: as it came.
        widths: what the bundle's encoder gives.

    Raises:
        BadAsk: others came, or vectors of another size, or with a number that is not finite.
    """
    outputs = {tensor.name: tensor_from_proto(tensor) for tensor in refresh.outputs}
    if {name: value.shape for name, value in outputs.items()} != {
        name: (width,) for name, width in widths.items()
    }:
        raise BadAsk(f"a refresh of this bundle sends {', '.join(widths)}, each of its own width")
    if not all(np.isfinite(value).all() for value in outputs.values()):
        raise BadAsk("a refresh sends a number that is not finite")
    return outputs
