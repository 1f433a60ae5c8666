"""The slot values that a device believes, and for how long."""

from collections.abc import Sequence
from dataclasses import replace

from shared_models.contract.overlay import Overlay
from shared_models.contract.tensors import TensorSpec


class Overlays:
    """The last good overlay of one device.

    Args:
        bundle_id: the bundle that the device runs.
        slots: what its graph lets be replaced.
        max_age: oldest overlay in events that still ranks; None for any.
    """

    __slots__ = ("_bundle_id", "_last", "_max_age", "_slots")

    def __init__(
        self, bundle_id: str, slots: Sequence[TensorSpec], max_age: int | None = None
    ) -> None:
        self._bundle_id, self._slots, self._max_age = bundle_id, slots, max_age
        self._last: Overlay | None = None

    def accept(self, overlay: Overlay) -> bool:
        """Take ``overlay`` in place of the last one; slots that it leaves out stay as they are.

        Returns:
            False where it is for another bundle or older than what is here: it is dropped.

        Raises:
            SlotMismatch: it does not fit; the last good one stays.
        """
        overlay.check(self._slots)
        if overlay.bundle_id != self._bundle_id or self._is_older(overlay):
            return False
        kept = self._last.slots if self._last else {}
        slots = {**kept, **overlay.slots}
        self._last = Overlay(overlay.bundle_id, overlay.events_seen, slots)
        return True

    def confirm(self, events_now: int) -> None:
        """Take the last overlay, where there is one, for as new as if it had come now."""
        if self._last is not None:
            self._last = replace(self._last, events_seen=events_now)

    def current(self, events_now: int) -> Overlay | None:
        """The overlay to rank with; None for the bundle's defaults."""
        if self._last is None or self._is_expired(self._last, events_now):
            return None
        return self._last

    @property
    def nbytes(self) -> int:
        """Bytes of the slot values that are kept."""
        return sum(value.nbytes for value in self._last.slots.values()) if self._last else 0

    def clear(self) -> None:
        """Go back to the bundle's defaults."""
        self._last = None

    def _is_older(self, overlay: Overlay) -> bool:
        return self._last is not None and overlay.events_seen < self._last.events_seen

    def _is_expired(self, overlay: Overlay, events_now: int) -> bool:
        return self._max_age is not None and overlay.age(events_now) > self._max_age
