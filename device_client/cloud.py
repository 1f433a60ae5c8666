"""The seam between a device and its cloud: everything above it is tested without a network."""

from collections.abc import Sequence
from typing import Protocol

from shared_models.contract.bundle import Bundle
from shared_models.contract.events import EventBatch
from shared_models.contract.overlay import Overlay
from shared_models.contract.tensors import Float32Array


class Cloud(Protocol):
    """What a virtual device may ask of a cloud. Each call may raise `CloudUnavailable`."""

    async def refresh(
        self, user: int, items: Sequence[int], *, events_seen: int, at: float
    ) -> Overlay:
        """Slot values for the uplink ``items`` (oldest first)."""
        ...

    async def rank(
        self, user: int, items: Sequence[int], candidates: Sequence[int], *, at: float
    ) -> Float32Array:
        """Logits (C,) for ``candidates``."""
        ...

    async def upload(self, user: int, events: EventBatch, *, at: float) -> int:
        """Hand over events; gives how many of the user's events are on the cloud's disk."""
        ...


class BundleSource(Protocol):
    """Where bundles come from."""

    async def released(self, method: str) -> str:
        """Id of the bundle that devices of ``method`` should run."""
        ...

    async def fetch_bundle(self, bundle_id: str) -> Bundle:
        """The bundle, every byte checked."""
        ...
