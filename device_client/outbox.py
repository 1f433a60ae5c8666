"""Events on their way to the cloud: kept until the cloud says that they are on disk."""

from collections import deque

from shared_models.contract.events import Event, EventBatch


class Outbox:
    """One user's unacknowledged events, numbered from 0 in the device's life.

    Nothing is dropped: what is not acknowledged is sent again, and the cloud's journal stores a
    number once. A user's unsent events cost 24 bytes each, bounded by the events of the run.
    """

    __slots__ = ("_events", "_first", "observed")

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._first = 0
        self.observed = 0

    def add(self, event: Event) -> None:
        """Keep ``event`` until it is acknowledged."""
        self._events.append(event)
        self.observed += 1

    def __len__(self) -> int:
        return len(self._events)

    def batch(self, most: int) -> EventBatch:
        """The oldest unacknowledged events, at most ``most``."""
        return EventBatch(self._first, [self._events[i] for i in range(min(most, len(self)))])

    def acknowledged(self, stored: int) -> None:
        """Forget the events that are on the cloud's disk: all with a number below ``stored``."""
        while self._events and self._first < stored:
            self._events.popleft()
            self._first += 1
