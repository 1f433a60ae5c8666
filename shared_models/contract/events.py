"""What happened, as a device sees it: one user's events in order of time."""

from collections.abc import Sequence
from dataclasses import dataclass

PAD = 0
"""Item id that stands for "no item"; real items are 1 to V."""


@dataclass(frozen=True, slots=True)
class Event:
    """A user took an item.

    Attributes:
        item: id in 1 to V, as the prepared log numbers items.
        at: virtual time in seconds.
    """

    item: int
    at: float


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Consecutive events of one user.

    Attributes:
        first: sequence number of the first one within the user's life on this device, from 0.
        events: in order of time.
    """

    first: int
    events: Sequence[Event]
