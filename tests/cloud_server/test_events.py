"""The journal: what was acknowledged is there, once, whatever happens."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_server.events import Entry, EventJournal, Uploads
from shared_models.contract.errors import BadAsk, BadSetting
from shared_models.contract.events import Event, EventBatch

ROOT = Path(__file__).parents[2]
ENDLESS = """
import sys
from pathlib import Path
from cloud_server.events import EventJournal
from shared_models.contract.events import Event, EventBatch
journal = EventJournal(Path(sys.argv[1]))
first = 0
while True:
    events = [Event(n + 1, float(n)) for n in (first, first + 1)]
    stored = journal.append([(user, EventBatch(first, events)) for user in (1, 2)])
    first += 2
    print(stored[0], flush=True)
"""


def life(first: int, last: int) -> EventBatch:
    """Events ``first`` to ``last - 1`` of a life in which event n takes item n + 1 at time n."""
    return EventBatch(first, [Event(n + 1, float(n)) for n in range(first, last)])


def lives(lengths: dict[int, int]) -> pl.DataFrame:
    """The whole lives of users, in no order; lengths in events."""
    rows = [(user, n, n + 1, float(n)) for user, last in lengths.items() for n in range(last)]
    frame = pl.DataFrame(rows, ["user", "seq", "item", "at"], orient="row")
    return frame.cast({"user": pl.Int32, "seq": pl.Int32}).sample(fraction=1, shuffle=True, seed=0)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[EventJournal]:
    journal = EventJournal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def test_events_are_there_after_reopening(tmp_path: Path) -> None:
    journal = EventJournal(tmp_path / "journal.sqlite")
    journal.append([(3, life(0, 2)), (1, life(0, 1))])
    journal.close()

    again = EventJournal(tmp_path / "journal.sqlite")

    assert list(again) == [
        Entry(1, 0, Event(1, 0.0)),
        Entry(3, 0, Event(1, 0.0)),
        Entry(3, 1, Event(2, 1.0)),
    ]
    assert (again.stored(3), again.stored(1), again.stored(2)) == (2, 1, 0)
    again.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=12))
def test_each_event_is_stored_once_whatever_comes_twice_or_out_of_order(
    pieces: list[tuple[int, int]],
) -> None:
    journal = EventJournal(Path(":memory:"))
    known = 0
    for first, last in ((min(piece), max(piece)) for piece in pieces):
        (stored,) = journal.append([(5, life(first, last))])

        known = max(known, last) if first <= known else known
        assert stored == known

    assert [entry.event for entry in journal] == list(life(0, known).events)
    journal.close()


def test_batches_of_one_commit_build_on_each_other(journal: EventJournal) -> None:
    stored = journal.append([(1, life(0, 2)), (1, life(1, 4)), (2, life(0, 1)), (1, life(9, 10))])

    assert stored == [2, 4, 1, 4]
    assert [entry.sequence for entry in journal if entry.user == 1] == [0, 1, 2, 3]


def test_the_first_telling_of_an_event_holds(journal: EventJournal) -> None:
    journal.append([(1, EventBatch(0, [Event(7, 1.0)]))])

    journal.append([(1, EventBatch(0, [Event(8, 2.0), Event(9, 3.0)]))])

    assert [entry.event for entry in journal] == [Event(7, 1.0), Event(9, 3.0)]


async def test_a_gap_is_refused_and_takes_nothing_of_its_neighbours(journal: EventJournal) -> None:
    uploads = Uploads(journal, largest=64, room=64)

    results = await asyncio.gather(
        uploads.store(1, life(0, 3), waits=True),
        uploads.store(2, life(1, 3), waits=True),
        uploads.store(3, life(0, 1), waits=True),
        return_exceptions=True,
    )

    assert (results[0], results[2]) == (3, 1)
    assert isinstance(results[1], BadAsk)
    assert "events start at 1, 0 are stored" in str(results[1])
    assert await uploads.stored(2, waits=True) == 0
    await uploads.close()


async def test_many_users_share_one_commit(journal: EventJournal) -> None:
    uploads = Uploads(journal, largest=64, room=64)
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    journal._db.set_trace_callback(count)
    await asyncio.gather(*(uploads.store(user, life(0, 2), waits=True) for user in range(50)))
    await uploads.close()

    assert commits == 1
    assert len(list(journal)) == 100


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    writer = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(20)]
    writer.kill()
    acknowledged += map(int, writer.stdout.read().split())
    writer.wait(10)
    writer.stdout.close()

    journal = EventJournal(path)

    for user in (1, 2):
        events = [entry.event for entry in journal if entry.user == user]
        assert len(events) >= acknowledged[-1]
        assert events == list(life(0, len(events)).events)
    journal.close()


@given(
    st.lists(st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(1, 7)), min_size=1)),
    st.integers(1, 5),
)
def test_a_bounded_journal_ends_as_an_endless_one_does(
    commits: list[list[tuple[int, int]]], keep: int
) -> None:
    endless, bounded = EventJournal(Path(":memory:")), EventJournal(Path(":memory:"), keep)
    for commit in commits:
        now = {user: endless.stored(user) for user, _ in commit}
        uploads = [(user, life(max(0, now[user] - 2), now[user] + more)) for user, more in commit]

        assert bounded.append(uploads) == endless.append(uploads)

    for user in (1, 2):
        everything = [entry for entry in endless if entry.user == user]
        assert [entry for entry in bounded if entry.user == user] == everything[-keep:]
        assert bounded.stored(user) == endless.stored(user)
    endless.close()
    bounded.close()


def test_what_is_no_longer_kept_is_not_taken_again(tmp_path: Path) -> None:
    journal = EventJournal(tmp_path / "journal.sqlite", keep=2)
    journal.append([(1, life(0, 9))])

    assert journal.append([(1, life(0, 3))]) == [9]
    assert [entry.sequence for entry in journal] == [7, 8]
    journal.close()


def test_another_process_s_newer_events_bound_the_journal_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = EventJournal(tmp_path / "journal.sqlite", keep=2)
    journal.append([(1, life(0, 9))])
    monkeypatch.setattr(journal, "stored", lambda _: 4)

    journal.append([(1, life(4, 6))])

    assert [entry.sequence for entry in journal] == [7, 8]
    journal.close()


def test_older_events_go_in_the_commit_that_brings_newer_ones(tmp_path: Path) -> None:
    journal = EventJournal(tmp_path / "journal.sqlite", keep=2)
    statements: list[str] = []
    journal._db.set_trace_callback(statements.append)

    journal.append([(1, life(0, 9)), (2, life(0, 9))])

    assert [word for word in statements if word.startswith(("BEGIN", "COMMIT"))] == [
        "BEGIN ",
        "COMMIT",
    ]
    journal.close()


def test_a_journal_that_would_keep_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep 0 would forget"):
        EventJournal(tmp_path / "journal.sqlite", keep=0)


def test_the_newest_items_come_oldest_first_and_right_padded(journal: EventJournal) -> None:
    journal.append([(3, life(0, 20)), (1, life(0, 2)), (2, life(0, 3))])

    newest = journal.newest(np.array([2, 9, 3, 1, 3, -1]), 3)

    assert newest.dtype == np.int64
    assert newest.tolist() == [
        [1, 2, 3],
        [0, 0, 0],
        [18, 19, 20],
        [1, 2, 0],
        [18, 19, 20],
        [0, 0, 0],
    ]
    assert journal.newest(np.array([], np.int64), 3).shape == (0, 3)


def test_a_bounded_journal_tells_no_more_than_it_keeps(tmp_path: Path) -> None:
    journal = EventJournal(tmp_path / "journal.sqlite", keep=2)
    journal.append([(1, life(0, 9))])

    assert journal.newest(np.array([1]), 4).tolist() == [[8, 9, 0, 0]]
    journal.close()


@pytest.mark.parametrize("keep", [None, 1, 3, 100])
def test_a_seeded_journal_is_one_to_which_all_was_appended(
    tmp_path: Path, keep: int | None
) -> None:
    seeded = EventJournal(tmp_path / "seeded.sqlite", keep)
    appended = EventJournal(tmp_path / "appended.sqlite", keep)

    seeded.seed(lives({4: 7, 1: 2, 9: 30}))
    appended.append([(4, life(0, 7)), (1, life(0, 2)), (9, life(0, 30))])

    assert list(seeded) == list(appended)
    assert seeded.append([(9, life(28, 33)), (5, life(0, 1))]) == [33, 1]
    seeded.close()
    appended.close()


def test_a_seed_may_begin_late_in_a_life(journal: EventJournal) -> None:
    journal.seed(lives({1: 9}).filter(pl.col("seq") >= 5))

    assert [entry.sequence for entry in journal] == [5, 6, 7, 8]
    assert journal.stored(1) == 9


def test_nothing_may_be_enough_to_seed(journal: EventJournal) -> None:
    journal.seed(lives({1: 9}).clear())

    assert list(journal) == []


def test_only_an_empty_journal_is_seeded(journal: EventJournal) -> None:
    journal.append([(1, life(0, 2))])

    with pytest.raises(BadSetting, match=r"journal\.sqlite holds events"):
        journal.seed(lives({2: 3}))

    assert [entry.user for entry in journal] == [1, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        lives({1: 5, 2: 5}).filter((pl.col("user") == 1) | (pl.col("seq") != 3)),
        pl.concat([lives({1: 5, 2: 5}), lives({2: 1})]),
    ],
    ids=["gap", "twice"],
)
def test_a_seed_with_wrong_numbers_is_refused(journal: EventJournal, wrong: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="not numbered one after the other"):
        journal.seed(wrong)

    assert list(journal) == []


def test_every_commit_reaches_the_disk(journal: EventJournal) -> None:
    full = 2

    assert journal._db.execute("PRAGMA synchronous").fetchone() == (full,)
    assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_is_no_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)

    with pytest.raises(BadSetting, match=r"notes\.txt cannot be a journal"):
        EventJournal(path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"away.*cannot be a journal"):
        EventJournal(tmp_path / "away" / "journal.sqlite")
