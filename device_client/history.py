"""What one user did lately: bounded, and small enough to host thousands in a process."""

from array import array
from collections.abc import Iterable
from typing import Final

from shared_models.contract.events import Event

_ITEM_IDS: Final = "I"


class History:
    """The newest items of one user, at most ``bound`` of them.

    Args:
        bound: most items to remember.
        items: what the user took before, oldest first.

    Attributes:
        events_seen: events of this user so far, the forgotten ones included.
    """

    __slots__ = ("_bound", "_items", "events_seen")

    def __init__(self, bound: int, items: Iterable[int] = ()) -> None:
        self._bound = bound
        self._items = array(_ITEM_IDS, items)
        self.events_seen = len(self._items)
        del self._items[:-bound]

    def observe(self, event: Event) -> None:
        """Remember ``event``, and forget what no longer fits."""
        self._items.append(event.item)
        self.events_seen += 1
        del self._items[: -self._bound]

    def keep(self, bound: int) -> None:
        """Remember at most ``bound`` items from now on; what was forgotten stays so."""
        self._bound = bound
        del self._items[:-bound]

    def everything(self) -> list[int]:
        """All that is remembered, oldest first."""
        return self._items.tolist()

    def window(self, length: int, lag: int = 0) -> list[int]:
        """The newest ``length`` items as they were ``lag`` events ago, oldest first."""
        stop = max(len(self._items) - lag, 0)
        return self._items[max(stop - length, 0) : stop].tolist()
