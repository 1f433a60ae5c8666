"""A device process is killed: the next one goes on with what the simulation knows."""

import asyncio
from collections.abc import Sequence

from protos.v1.simulation_pb2 import (
    Begin,
    End,
    InitialWindow,
    Moment,
    Order,
    Rankings,
    Ready,
    Report,
    Round,
    RoundDone,
    RunDone,
)
from simulator.coordinator import DeviceLink
from simulator.revival import Reviving

BEGIN = Begin(
    method="tiny",
    settings="{}",
    live=True,
    windows=[InitialWindow(user=1, items=[11], profile=[5]), InitialWindow(user=2, items=[22])],
)


def moment(index: int, user: int, item: int, *, behaviour_only: bool = False) -> Moment:
    return Moment(
        index=index, user=user, at=float(item), outcome=[item], behaviour_only=behaviour_only
    )


PART = Round(
    number=1,
    hand_over=True,
    moments=[
        moment(0, 1, 101),
        moment(0, 2, 200, behaviour_only=True),
        moment(1, 2, 201),
        moment(2, 1, 102),
        moment(3, 2, 202),
    ],
)


class Life(DeviceLink):
    """A device process whose words are put into its mouth."""

    def says(self, *reports: Report) -> None:
        for report in reports:
            self._reports.put_nowait(report)

    def dies(self) -> None:
        self._reports.put_nowait(None)

    def ordered(self) -> list[Order]:
        return [self._orders.get_nowait() for _ in range(self._orders.qsize())]  # type: ignore[misc]


READY = Report(ready=Ready(bundle_id="b"))
DONE = Report(round_done=RoundDone(round=1))


def ranked(*indices: int) -> Report:
    return Report(rankings=Rankings(moments=indices))


def windows(order: Order) -> dict[int, list[int]]:
    return {window.user: list(window.items) for window in order.begin.windows}


def indices(order: Order) -> list[int]:
    return [each.index for each in order.round.moments]


async def nothing_to_wait_for(_: int) -> None: ...


async def heard(link: Reviving, count: int) -> Sequence[Report | None]:
    async with asyncio.timeout(5):
        return [await link.said() for _ in range(count)]


def begun() -> tuple[Reviving, Life]:
    life = Life(1)
    link = Reviving(life, nothing_to_wait_for)
    link.tell(Order(begin=BEGIN))
    link.tell(Order(round=PART))
    return link, life


def killed(link: Reviving, life: Life) -> Life:
    later = Life(2)
    link.killed()
    life.dies()
    link.reborn(later)
    return later


async def test_the_next_process_lives_what_was_not_reported_with_windows_up_to_there() -> None:
    link, life = begun()
    life.says(READY, ranked(0, 1))
    later = killed(link, life)
    later.says(READY, ranked(2), ranked(3), DONE)

    said = await heard(link, 5)

    begin, part = later.ordered()
    # What user 2 took by itself came before a ranking that was reported.
    assert windows(begin) == {1: [11, 101], 2: [22, 200, 201]}
    assert begin.begin.windows[0].profile == [5]
    assert (begin.begin.method, begin.begin.live) == ("tiny", True)
    assert indices(part) == [2, 3]
    assert part.round.hand_over
    # Its own word that it is ready is not for the replay.
    kinds = [report.WhichOneof("body") for report in said if report]
    assert kinds == ["ready", "rankings", "rankings", "rankings", "round_done"]
    assert link.pid == 2


async def test_the_next_process_holds_the_users_too_so_that_it_gets_their_tokens() -> None:
    link, life = begun()
    later = killed(link, life)
    later.says(READY)

    await heard(link, 1)

    assert life.users == later.users == {1, 2}


async def test_a_process_that_dies_before_it_was_ready_is_replaced_by_one_that_begins() -> None:
    link, life = begun()
    later = killed(link, life)
    later.says(READY)

    (said,) = await heard(link, 1)

    assert said == READY
    begin, part = later.ordered()
    assert windows(begin) == {1: [11], 2: [22]}
    assert indices(part) == [0, 0, 1, 2, 3]


async def test_after_a_whole_round_nothing_of_it_is_lived_again() -> None:
    link, life = begun()
    life.says(READY, ranked(0, 1, 2, 3), DONE)
    await heard(link, 3)
    link.tell(Order(end=End()))
    later = killed(link, life)
    later.says(READY, Report(run_done=RunDone()))

    (said,) = await heard(link, 1)

    assert said is not None
    assert said.HasField("run_done")
    begin, end = later.ordered()
    assert windows(begin) == {1: [11, 101, 102], 2: [22, 200, 201, 202]}
    assert end.HasField("end")


async def test_one_that_dies_as_soon_as_it_is_there_is_replaced_as_well() -> None:
    link, life = begun()
    life.says(READY, ranked(0))
    second = killed(link, life)
    third = killed(link, second)
    third.says(READY, ranked(1), ranked(2, 3), DONE)

    said = await heard(link, 5)

    assert [report.WhichOneof("body") for report in said if report][-1] == "round_done"
    begin, part = third.ordered()
    assert windows(begin) == {1: [11, 101], 2: [22]}
    assert indices(part) == [0, 1, 2, 3]


async def test_a_process_that_dies_by_itself_is_not_replaced() -> None:
    link, life = begun()
    life.dies()

    assert await heard(link, 1) == [None]


async def test_an_offer_is_answered_to_whoever_made_it_in_its_turn() -> None:
    link, life = begun()
    offer = link.offer("bad")
    refused = Report(ready=Ready(bundle_id="b", refusal={"code": "bundle-refused"}))
    life.says(READY, ranked(0, 1, 2, 3), DONE, refused, Report(run_done=RunDone()))

    said = await heard(link, 4)

    assert [report.WhichOneof("body") for report in said if report] == [
        *("ready", "rankings", "round_done", "run_done")
    ]
    assert offer.result().ready.refusal.code == "bundle-refused"
    assert life.ordered()[-1].switch.offered


async def test_a_round_does_not_end_before_its_faults_are_over() -> None:
    over, asked = asyncio.Event(), list[int]()

    async def settled(number: int) -> None:
        asked.append(number)
        await over.wait()

    life = Life(1)
    link = Reviving(life, settled)
    link.tell(Order(begin=BEGIN))
    link.tell(Order(round=PART))
    life.says(READY, DONE)
    await heard(link, 1)

    waiting = asyncio.create_task(link.said())
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert asked == [1]
    assert not waiting.done()
    over.set()
    assert await waiting == DONE


async def test_wrong_clocks_tell_wrong_times_from_the_next_round_on() -> None:
    link, life = begun()
    link.clock_error_s = -1000.0
    link.tell(Order(round=Round(number=2, moments=[moment(0, 1, 103)])))

    _, first, second = life.ordered()
    assert first.round.moments[0].at == 101.0
    assert second.round.moments[0].at == -897.0
