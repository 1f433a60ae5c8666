"""Events on their way to the cloud's journal, numbered so that none is stored twice."""

from collections import deque
from itertools import islice

from shared_models.contract.events import Event, EventBatch


class Outbox:
    """One user's events that the cloud has not acknowledged yet.

    Nothing is ever dropped: an outbox that is full must be emptied before it takes more. Numbers go
    on where the journal stood when this device began (`anchor`), so a device that starts anew does
    not take the numbers of its former life.

    Args:
        bound: most events that wait.
        batch: events that go up together.

    Attributes:
        taken: events handed to this outbox so far.
    """

    __slots__ = ("_batch", "_bound", "_events", "_first", "taken")

    def __init__(self, bound: int, batch: int) -> None:
        self._bound, self._batch = bound, batch
        self._events: deque[Event] = deque()
        self._first: int | None = None
        self.taken = 0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def is_full(self) -> bool:
        """Whether it must be emptied before it takes another event."""
        return len(self._events) >= self._bound

    @property
    def is_due(self) -> bool:
        """Whether a whole number of batches waits; in an outage that spaces the tries."""
        return bool(self._events) and len(self._events) % self._batch == 0

    @property
    def is_anchored(self) -> bool:
        """Whether the number of the next event is known."""
        return self._first is not None

    def anchor(self, stored: int) -> None:
        """Number events from ``stored`` on: what the journal held before this device began."""
        self._first = stored

    def add(self, event: Event) -> None:
        """Take ``event``."""
        self._events.append(event)
        self.taken += 1

    def pending(self, lag: int = 0) -> EventBatch:
        """Everything that waits but its newest ``lag`` events; only after `anchor`."""
        return self.oldest(max(len(self._events) - lag, 0))

    def oldest(self, count: int) -> EventBatch:
        """Of what waits the oldest ``count`` events, or all; only after `anchor`."""
        assert self._first is not None  # noqa: S101 - the caller anchors first
        return EventBatch(self._first, tuple(islice(self._events, count)))

    def acknowledged(self, stored: int) -> None:
        """Forget what the journal holds: its first ``stored`` events of this user."""
        assert self._first is not None  # noqa: S101 - nothing was sent before
        for _ in range(min(stored - self._first, len(self._events))):
            self._events.popleft()
            self._first += 1
