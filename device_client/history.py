"""What a user took lately: bounded, oldest first."""

from array import array
from collections.abc import Iterable

from shared_models.contract.bundle import Manifest
from shared_models.contract.events import Event


class History:
    """The newest items of one user, and how many there were in all.

    Args:
        items: taken before, oldest first.
        keep: most items to remember.
    """

    __slots__ = ("_items", "_keep", "events_seen")

    def __init__(self, items: Iterable[int], keep: int) -> None:
        self._items = array("i", items)[-keep:]
        self._keep = keep
        self.events_seen = len(self._items)

    def observe(self, event: Event) -> None:
        """Add what the user took."""
        self._items.append(event.item)
        self.events_seen += 1
        # Twice the room, so that the front is cut once in a while and not each time.
        if len(self._items) > 2 * self._keep:
            del self._items[: -self._keep]

    def window(self, length: int, lag: int = 0) -> list[int]:
        """The ``length`` items that were newest ``lag`` events ago, oldest first."""
        end = max(len(self._items) - lag, 0)
        return self._items[max(end - length, 0) : end].tolist()


def items_needed(manifest: Manifest, uplink_lag: int) -> int:
    """Items that a device must remember for its scorer, and for uplinks that lag."""
    sent = manifest.uplink.items + uplink_lag if manifest.uplink else 0
    return max(manifest.features.window, sent)
