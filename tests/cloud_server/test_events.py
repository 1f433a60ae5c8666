"""The journal: what was acknowledged is there, once, whatever happens."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
