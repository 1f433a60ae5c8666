"""What one user, and all together, may ask of a cloud."""

import asyncio
from typing import Final
from weakref import WeakValueDictionary

from aiolimiter import AsyncLimiter

from shared_models.contract.errors import Overloaded

_RETRY_MS: Final = 1000


class Paces:
    """How fast users may ask, over all of their sessions.

    Args:
        asks: of one user, at most, at once and in each ``seconds``.
        seconds: of the span.
    """

    def __init__(self, asks: int, seconds: float) -> None:
        self._asks, self._seconds = asks, seconds
        # A user's pace lasts as long as one of its sessions, and until what that took is over.
        self._of: WeakValueDictionary[int, AsyncLimiter] = WeakValueDictionary()
        self._left: set[AsyncLimiter] = set()

    def fresh(self) -> AsyncLimiter:
        """The pace of a session that has not said yet whose it is."""
        return AsyncLimiter(self._asks, self._seconds)

    def of(self, user: int) -> AsyncLimiter:
        """The pace that all sessions of ``user`` share."""
        return self._of.setdefault(user, self.fresh())

    def leave(self, pace: AsyncLimiter) -> None:
        """A session is over; who opens the next one at once goes on at this pace."""
        self._left.add(pace)
        asyncio.get_running_loop().call_later(self._seconds, self._left.discard, pace)


async def keep_to(pace: AsyncLimiter, *, waits: bool) -> None:
    """Take one ask's share of a pace.

    Args:
        pace: whose.
        waits: until there is one, as a replay does; otherwise the ask is turned away.

    Raises:
        Overloaded: too many asks came, and this one does not wait.
    """
    if not waits and not pace.has_capacity():
        raise Overloaded(_RETRY_MS)
    await pace.acquire()


def room_for(sessions: int, most: int) -> None:
    """See whether one more session may open beside so many.

    Raises:
        Overloaded: there are as many as may be.
    """
    if sessions >= most:
        raise Overloaded(_RETRY_MS)
