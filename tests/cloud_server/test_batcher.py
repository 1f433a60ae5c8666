"""The batcher: what shares a batch, who is turned away, and who is told what."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from cloud_server.batcher import Batcher, padded_rows
from shared_models.contract.errors import CloudUnavailable, Overloaded


class Doubling:
    """Doubles numbers, batch by batch, while its gate is open."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.begun = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.begun.set()
        assert self.gate.wait(10)
        if -1 in numbers:
            raise ArithmeticError("minus one")
        return [2 * number for number in numbers]


@pytest.fixture
def work() -> Doubling:
    return Doubling()


@pytest.fixture
async def batcher(work: Doubling) -> AsyncIterator[Batcher[int, int]]:
    batcher = Batcher(work, largest=3, room=4, name="doubling")
    yield batcher
    work.gate.set()
    await batcher.close()


async def busy(
    batcher: Batcher[int, int], work: Doubling, *waiting: int
) -> list[asyncio.Task[int]]:
    """Occupy the worker with 0, then let ``waiting`` queue up."""
    first = asyncio.create_task(batcher.submit(0, waits=False))
    await asyncio.to_thread(work.begun.wait, 10)
    others = [asyncio.create_task(batcher.submit(item, waits=False)) for item in waiting]
    await asyncio.sleep(0)
    return [first, *others]


async def test_what_queued_up_while_the_worker_was_busy_shares_batches(
    batcher: Batcher[int, int], work: Doubling
) -> None:
    tasks = await busy(batcher, work, 1, 2, 3, 4)

    work.gate.set()
    results = await asyncio.gather(*tasks)

    assert results == [0, 2, 4, 6, 8]
    assert work.batches == [[0], [1, 2, 3], [4]]


async def test_a_full_queue_turns_away_who_does_not_wait_and_says_when_to_come_back(
    batcher: Batcher[int, int], work: Doubling
) -> None:
    tasks = await busy(batcher, work, 1, 2, 3, 4)

    with pytest.raises(Overloaded) as refused:
        await batcher.submit(5, waits=False)

    assert refused.value.retry_after_ms >= 1
    work.gate.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8]


async def test_the_hint_grows_with_the_time_that_a_full_queue_takes(work: Doubling) -> None:
    batcher = Batcher(work, largest=2, room=4, name="slow")
    (first,) = await busy(batcher, work)
    await asyncio.sleep(0.05)
    work.gate.set()
    await first
    work.gate.clear()
    work.begun.clear()
    tasks = await busy(batcher, work, 1, 2, 3, 4)

    with pytest.raises(Overloaded) as refused:
        await batcher.submit(5, waits=False)

    assert refused.value.retry_after_ms >= 100
    work.gate.set()
    await asyncio.gather(*tasks)
    await batcher.close()


async def test_who_would_come_too_late_is_turned_away_at_the_door(work: Doubling) -> None:
    batcher = Batcher(work, largest=2, room=100, name="slow")
    (first,) = await busy(batcher, work)
    await asyncio.sleep(0.05)  # the pace: at least so long a batch
    work.gate.set()
    await first
    work.gate.clear()
    work.begun.clear()
    tasks = await busy(batcher, work, 1, 2)
    soon = asyncio.get_running_loop().time() + 0.02

    with pytest.raises(Overloaded) as refused:
        await batcher.submit(3, waits=False, expires=soon)
    patient = asyncio.create_task(batcher.submit(4, waits=False, expires=soon + 60))
    replayed = asyncio.create_task(batcher.submit(5, waits=True, expires=soon + 60))
    await asyncio.sleep(0)

    assert refused.value.retry_after_ms >= 50
    work.gate.set()
    assert await asyncio.gather(*tasks, patient, replayed) == [0, 2, 4, 8, 10]
    await batcher.close()


async def test_a_full_queue_makes_a_replay_wait(batcher: Batcher[int, int], work: Doubling) -> None:
    tasks = await busy(batcher, work, 1, 2, 3, 4)
    patient = [asyncio.create_task(batcher.submit(n, waits=True)) for n in range(5, 25)]
    await asyncio.sleep(0)

    work.gate.set()

    assert await asyncio.gather(*tasks, *patient) == [2 * n for n in range(25)]


async def test_an_expired_item_is_dropped_before_the_work(
    batcher: Batcher[int, int], work: Doubling
) -> None:
    now = asyncio.get_running_loop().time()
    tasks = await busy(batcher, work)
    late = asyncio.create_task(batcher.submit(7, waits=False, expires=now))
    in_time = asyncio.create_task(batcher.submit(8, waits=False, expires=now + 60))
    await asyncio.sleep(0)

    work.gate.set()

    with pytest.raises(CloudUnavailable, match="too late"):
        await late
    assert await asyncio.gather(*tasks, in_time) == [0, 16]
    assert work.batches == [[0], [8]]


async def test_an_item_that_nobody_waits_for_any_more_is_dropped(
    batcher: Batcher[int, int], work: Doubling
) -> None:
    tasks = await busy(batcher, work, 1, 2)
    tasks.pop(1).cancel()
    await asyncio.sleep(0)

    work.gate.set()
    await asyncio.gather(*tasks)

    assert work.batches == [[0], [2]]


async def test_a_failure_of_the_work_fails_its_batch_and_no_other(
    batcher: Batcher[int, int], work: Doubling
) -> None:
    tasks = await busy(batcher, work, 1, -1, 3, 4)

    work.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in results] == [int, *[ArithmeticError] * 3, int]
    assert results[4] == 8


async def test_work_that_loses_a_result_fails_instead_of_shifting_the_others() -> None:
    batcher = Batcher(lambda items: list(items)[1:], name="loses")

    with pytest.raises(RuntimeError, match="1 items gave 0 results"):
        await batcher.submit(1, waits=True)
    await batcher.close()


async def test_closing_finishes_what_waits_and_takes_nothing_more(
    batcher: Batcher[int, int], work: Doubling
) -> None:
    tasks = await busy(batcher, work, 1, 2)
    patient = [asyncio.create_task(batcher.submit(n, waits=True)) for n in range(3, 9)]
    await asyncio.sleep(0)

    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0)
    with pytest.raises(CloudUnavailable, match="stopping"):
        await batcher.submit(9, waits=True)
    work.gate.set()
    await asyncio.wait_for(closing, 10)

    assert await asyncio.gather(*tasks, *patient) == [2 * n for n in range(9)]


@pytest.mark.parametrize(("rows", "padded"), [(1, 8), (8, 8), (9, 16), (64, 64)])
def test_batches_are_padded_to_multiples_of_eight_rows(rows: int, padded: int) -> None:
    given = np.arange(1, 1 + rows * 3).reshape(rows, 3)

    grown = padded_rows(given)

    assert grown.shape == (padded, 3)
    assert (grown[:rows] == given).all()
    assert not grown[rows:].any()
