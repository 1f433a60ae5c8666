"""The overlay that a device believes: the last good one, for as long as its rule allows."""

from collections.abc import Sequence

from shared_models.contract.errors import SlotMismatch
from shared_models.contract.overlay import Overlay
from shared_models.contract.tensors import TensorSpec


class OverlayShelf:
    """Keeps one device's overlay for one bundle.

    Args:
        bundle_id: overlays of other bundles are refused.
        slots: what the bundle declares.
        max_age: oldest overlay, in events, that is handed out; None is any.
    """

    __slots__ = ("_bundle_id", "_max_age", "_overlay", "_slots")

    def __init__(self, bundle_id: str, slots: Sequence[TensorSpec], max_age: int | None) -> None:
        self._bundle_id, self._slots, self._max_age = bundle_id, slots, max_age
        self._overlay: Overlay | None = None

    def accept(self, overlay: Overlay) -> None:
        """Take ``overlay`` if it fits and is no older than the one that is here.

        Raises:
            SlotMismatch: it does not fit this bundle; the last good one stays.
        """
        if overlay.bundle_id != self._bundle_id:
            raise SlotMismatch("*", f"bundle {self._bundle_id[:12]}", overlay.bundle_id[:12])
        overlay.check(self._slots)
        if self._overlay is None or overlay.events_seen >= self._overlay.events_seen:
            self._overlay = overlay

    def current(self, events_seen: int) -> Overlay | None:
        """The overlay to rank with after ``events_seen`` events; None means the default slots."""
        if self._overlay is None:
            return None
        age = self._overlay.age(events_seen)
        return self._overlay if self._max_age is None or age <= self._max_age else None

    def clear(self) -> None:
        """Go back to the default slots."""
        self._overlay = None
