"""Many asks, one piece of work: the adaptive batcher of forward passes and journal commits.

There is no timer. Each time the worker is free it takes all that waits, up to a bound, so a lonely
ask goes at once and a crowd shares its cost.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared_models.contract.errors import CloudUnavailable, Overloaded
from shared_models.contract.events import PAD

Number = TypeVar("Number", bound=np.generic)
Item = TypeVar("Item")
Result = TypeVar("Result")

_ROWS: Final = 8
_NEWEST: Final = 1 / 8
"""Share of the newest batch in the pace."""


@dataclass(slots=True)
class Stay:
    """Where something that was submitted spent its time; filled in by the batcher.

    Attributes:
        queue_seconds: until its batch was taken up.
        compute_seconds: of the work on its batch, which it shares with the others there.
    """

    queue_seconds: float = 0.0
    compute_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Item, Result]):
    """Something that waits for its turn."""

    item: Item
    result: "asyncio.Future[Result]"
    expires: float | None
    submitted: float
    stay: Stay

    def is_wanted(self, now: float) -> bool:
        """Whether somebody still waits for it; who waits for too long is told so."""
        if self.result.done():
            return False
        if self.expires is not None and now >= self.expires:
            self.result.set_exception(CloudUnavailable("the answer would have come too late"))
            return False
        return True


class Batcher(Generic[Item, Result]):
    """Calls ``work`` on batches, in a thread of its own, while the event loop goes on.

    Make it inside a running event loop.

    Args:
        work: one result for each item, in the same order; it fails for all of them or none.
        largest: most items in a batch.
        room: most items that wait.
        name: of the thread.
        clock: monotonic seconds; not the loop's, which uvloop counts in whole milliseconds.

    Attributes:
        name: as given.
        sizes: how many batches so far had which size.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        largest: int = 64,
        room: int = 1024,
        name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.sizes: Counter[int] = Counter()
        self._work, self._largest, self._clock = work, largest, clock
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[_Entry[Item, Result]] = asyncio.Queue(room)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._batch_seconds = 0.0
        self._closing = False
        self._serving = self._loop.create_task(self._serve(), name=name)

    async def submit(
        self,
        item: Item,
        *,
        waits: bool,
        expires: float | None = None,
        stay: Stay | None = None,
    ) -> Result:
        """The result for ``item``.

        Args:
            item: what to work on.
            waits: wait for room instead of being turned away.
            expires: time of the clock from which on nobody wants the result.
            stay: told where the time went.

        Raises:
            Overloaded: there is no room, or its turn would come too late; ``waits`` is false.
            CloudUnavailable: it expired before its turn came, or the cloud is stopping.
        """
        if self._closing:
            raise CloudUnavailable("the cloud is stopping")
        now = self._clock()
        if not waits and (self._waiting.full() or self._comes_too_late(now, expires)):
            raise Overloaded(max(1, math.ceil(1000 * self._wait_seconds())))
        result: asyncio.Future[Result] = self._loop.create_future()
        await self._waiting.put(_Entry(item, result, expires, now, stay or Stay()))
        return await result

    @property
    def waiting(self) -> int:
        """How many wait for their batch."""
        return self._waiting.qsize()

    async def close(self) -> None:
        """Finish what waits, take nothing more."""
        self._closing = True
        await self._waiting.join()
        self._serving.cancel()
        await asyncio.wait([self._serving])
        self._thread.shutdown()

    async def _serve(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._largest and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            now = self._clock()
            if wanted := [entry for entry in batch if entry.is_wanted(now)]:
                self.sizes[len(wanted)] += 1
                await self._settle(wanted)
                self._keep_pace(self._clock() - now)
            for _ in batch:
                self._waiting.task_done()

    async def _settle(self, batch: Sequence[_Entry[Item, Result]]) -> None:
        start = self._clock()
        working = self._loop.run_in_executor(self._thread, self._results, batch)
        await asyncio.wait([working])
        failure, seconds = working.exception(), self._clock() - start
        for index, entry in enumerate(batch):
            entry.stay.queue_seconds = start - entry.submitted
            entry.stay.compute_seconds = seconds
            if entry.result.done():
                continue
            if failure is None:
                entry.result.set_result(working.result()[index])
            else:
                entry.result.set_exception(failure)

    def _results(self, batch: Sequence[_Entry[Item, Result]]) -> Sequence[Result]:
        results = self._work([entry.item for entry in batch])
        if len(results) != len(batch):
            raise RuntimeError(f"{len(batch)} items gave {len(results)} results")
        return results

    def _keep_pace(self, seconds: float) -> None:
        """Remember what a batch takes, a mean in which older ones fade."""
        share = _NEWEST if self._batch_seconds else 1.0
        self._batch_seconds += share * (seconds - self._batch_seconds)

    def _wait_seconds(self) -> float:
        """How long all that waits takes, at the pace of the last batches."""
        return math.ceil(self._waiting.qsize() / self._largest) * self._batch_seconds

    def _comes_too_late(self, now: float, expires: float | None) -> bool:
        """Whether whoever joins the queue now is better told at once.

        A queue that is full of the hopeless answers nobody in time. What fits into the next batch
        is always taken, so that an outdated pace does not last.
        """
        if expires is None or self._waiting.qsize() < self._largest:
            return False
        return now + self._wait_seconds() > expires


def padded_rows(rows: NDArray[Number]) -> NDArray[Number]:
    """``rows`` (B, ...) with rows of `PAD` below, up to the next multiple of 8.

    Matrix products treat their last rows otherwise where the number of rows is no multiple of 4
    (seen: the last bit of DIN's overlays). At multiples of 8, and with what `shared_models` asks
    of MKL, a row's result does not depend, to the bit, on what shares its batch.
    """
    missing = -len(rows) % _ROWS
    return np.pad(rows, ((0, missing), *[(0, 0)] * (rows.ndim - 1)), constant_values=PAD)
