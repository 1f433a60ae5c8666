"""The checker of histories: it finds each broken promise, and none where all were kept."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cloud_server.events import EventJournal
from cloud_server.federation.journal import ContributionJournal, Waiting
from cloud_server.memory.sqlite import SqliteMemory
from cloud_server.settings import ServeSettings
from shared_models.contract.errors import BadLog, PathMissing, RunFailed
from shared_models.contract.events import Event, EventBatch
from shared_models.contract.history import (
    ContributionSent,
    ContributionsStored,
    Entry,
    EventsSent,
    EventsStored,
    RefreshSent,
    VectorKept,
    digest,
    line,
    read_history,
)
from shared_models.contract.manifest import MemorySpec
from simulator.cli import app
from simulator.history import Verdict, check_run, check_runs, require_kept
from simulator.kept import KEEP, note_kept
from simulator.places import CONTRIBUTIONS, HISTORY, JOURNAL, MEMORY, own_folder

USERS, EVENTS, PAST = 3, 8, 4
TASTE = MemorySpec(name="taste", width=4)
Tamper = Callable[[Path], None]


def vector(user: int, version: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.full(TASTE.width, 10 * user + version, np.float32)


def what(user: int, number: int) -> tuple[int, float]:
    return 100 * user + number, float(number)


def batch(user: int, first: int, stop: int) -> EventBatch:
    return EventBatch(first, tuple(Event(*what(user, n)) for n in range(first, stop)))


def sent(user: int, first: int, stop: int) -> EventsSent:
    items, at = zip(*(what(user, n) for n in range(first, stop)), strict=True)
    return EventsSent(user, first, list(items), list(at))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A run that was played well: what its devices wrote down, and what its cloud holds."""
    own = own_folder(tmp_path, "tiny-0")
    (own / HISTORY).mkdir(parents=True)
    (own / MEMORY).mkdir()
    journal, memory = EventJournal(own / JOURNAL), SqliteMemory(own / MEMORY / "b.sqlite", [TASTE])
    contributions = ContributionJournal(own / CONTRIBUTIONS)
    entries: list[Entry] = []
    for user in range(USERS):
        journal.append([(user, batch(user, 0, PAST)), (user, batch(user, PAST, EVENTS))])
        # The first try of the second batch was not answered, and came again with more.
        entries += [sent(user, PAST, 6), EventsStored(user, 6), sent(user, 6, 7)]
        entries += [sent(user, 6, EVENTS), EventsStored(user, EVENTS)]
        for version in (1, 2):
            memory.put(TASTE.name, np.array([user]), vector(user, version)[None], version)
            mark = digest(vector(user, version).tobytes())
            entries += [RefreshSent(user, "b"), VectorKept(user, "b", version, mark)]
        with contributions.commit():
            for number in range(2):
                move = np.ones(3, np.float32)
                contributions.add("b", 0, 1, Waiting(user, 1, move))
                entries.append(ContributionSent(user, "b", number))
        entries.append(ContributionsStored(user, "b", 2))
    for each in (journal, memory, contributions):
        each.close()
    (own / HISTORY / "device-1.jsonl").write_text("".join(map(line, entries)) + '{"what": "cut')
    return tmp_path


@pytest.fixture
def own(results: Path) -> Path:
    return own_folder(results, "tiny-0")


def change(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()


def test_kept_promises_are_found_kept(own: Path) -> None:
    assert check_run(own) == (
        Verdict("events", USERS * (EVENTS - PAST)),
        Verdict("vectors", USERS * 2),
        Verdict("contributions", USERS * 2),
    )


SWAPPED = (
    "UPDATE events SET item = 106 WHERE user = 1 AND sequence = 5",
    "UPDATE events SET item = 105 WHERE user = 1 AND sequence = 6",
    "UPDATE events SET at = 11 - at WHERE user = 1 AND sequence IN (5, 6)",
)
BROKEN: dict[str, tuple[str, tuple[str, ...], str, tuple[int, int, int]]] = {
    "an event dropped": (
        JOURNAL,
        ("DELETE FROM events WHERE user = 1 AND sequence = 6",),
        "events",
        (1, 0, 0),
    ),
    "the newest event dropped": (
        JOURNAL,
        ("DELETE FROM events WHERE user = 2 AND sequence = 7",),
        "events",
        (1, 0, 0),
    ),
    "an event doubled": (
        JOURNAL,
        ("INSERT INTO events SELECT user, 8, item, at FROM events WHERE user = 1 AND item = 107",),
        "events",
        (0, 1, 0),
    ),
    "two events exchanged": (JOURNAL, SWAPPED, "events", (0, 0, 2)),
    "an event altered": (
        JOURNAL,
        ("UPDATE events SET item = 9 WHERE user = 1 AND sequence = 6",),
        "events",
        (1, 1, 0),
    ),
    "a vector of an older version": (
        f"{MEMORY}/b.sqlite",
        ("UPDATE vectors SET version = 1, data = settled_data WHERE user = 1",),
        "vectors",
        (1, 0, 0),
    ),
    "a vector torn": (
        f"{MEMORY}/b.sqlite",
        ("UPDATE vectors SET data = zeroblob(16) WHERE user = 1",),
        "vectors",
        (1, 0, 0),
    ),
    "a vector gone": (f"{MEMORY}/b.sqlite", ("DELETE FROM vectors",), "vectors", (6, 0, 0)),
    "a vector written too often": (
        f"{MEMORY}/b.sqlite",
        ("UPDATE vectors SET version = 5 WHERE user = 1",),
        "vectors",
        (0, 2, 0),
    ),
    "a contribution dropped": (
        CONTRIBUTIONS,
        ("UPDATE contributors SET stored = 1 WHERE user = 1",),
        "contributions",
        (1, 0, 0),
    ),
    "a contribution doubled": (
        CONTRIBUTIONS,
        ("UPDATE contributors SET stored = 3 WHERE user = 1",),
        "contributions",
        (0, 1, 0),
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_promise_is_found_and_counted(kind: str, own: Path) -> None:
    file, statements, name, expected = BROKEN[kind]
    change(own / file, *statements)

    verdicts = {verdict.what: verdict for verdict in check_run(own)}

    found = verdicts.pop(name)
    assert (found.lost, found.doubled, found.reordered) == expected
    assert not found.holds
    assert all(verdict.holds for verdict in verdicts.values())


def test_a_cloud_without_its_files_has_lost_everything(own: Path) -> None:
    for file in (JOURNAL, CONTRIBUTIONS, f"{MEMORY}/b.sqlite"):
        (own / file).unlink()

    assert [verdict.lost for verdict in check_run(own)] == [12, 6, 6]


def test_a_version_that_was_written_over_is_a_loss(own: Path) -> None:
    again = VectorKept(1, "b", 1, 77)
    (own / HISTORY / "device-2.jsonl").write_text(line(again))

    assert check_run(own)[1] == Verdict("vectors", 7, lost=1)


def test_what_goes_backwards_is_reordered(own: Path) -> None:
    mark = digest(vector(1, 1).tobytes())
    path = own / HISTORY / "device-2.jsonl"
    path.write_text(
        line(VectorKept(1, "b", 2, digest(vector(1, 2).tobytes())))
        + line(VectorKept(1, "b", 1, mark))
    )

    assert check_run(own)[1] == Verdict("vectors", 8, reordered=1)


@pytest.mark.parametrize(("newest", "lost"), [(1, 0), (2, 1), (EVENTS, 3)])
def test_only_what_the_journal_may_forget_is_not_missed(own: Path, newest: int, lost: int) -> None:
    note_kept(own, ["limits.pace=5", f"history={newest}"])
    change(own / JOURNAL, "DELETE FROM events WHERE user = 1 AND sequence < 7")

    assert check_run(own)[0].lost == lost


def test_a_cloud_that_was_told_nothing_keeps_a_thousand_events(own: Path) -> None:
    change(own / JOURNAL, "DELETE FROM events WHERE user = 1 AND sequence < 7")
    note_kept(own, [])

    assert check_run(own)[0].lost == 3
    assert ServeSettings.model_fields["history"].default == KEEP


@pytest.mark.parametrize(
    "stored",
    ["INSERT INTO events VALUES (1, 8, 108, 8.0)", "INSERT INTO events VALUES (1, 8, 999, 99.0)"],
)
@pytest.mark.parametrize("keep", [1, 1000])
def test_of_two_promises_under_one_number_one_is_lost_in_whatever_order_they_are_read(
    own: Path, stored: str, keep: int
) -> None:
    first, second = what(1, EVENTS), (999, 99.0)
    change(own / JOURNAL, stored)
    note_kept(own, [f"history={keep}"])
    for name, (item, at) in {"device-10": first, "device-9": second}.items():
        entries = EventsSent(1, EVENTS, [item], [at]), EventsStored(1, EVENTS + 1)
        (own / HISTORY / f"{name}.jsonl").write_text("".join(map(line, entries)))

    assert check_run(own)[0] == Verdict("events", USERS * (EVENTS - PAST) + 2, lost=1)


def test_a_promise_that_was_written_over_is_lost_though_both_may_be_forgotten_by_now(
    own: Path,
) -> None:
    entries = EventsSent(1, PAST, [999], [99.0]), EventsStored(1, PAST + 1)
    (own / HISTORY / "device-0.jsonl").write_text("".join(map(line, entries)))
    change(own / JOURNAL, "DELETE FROM events WHERE user = 1 AND sequence < 7")
    note_kept(own, ["history=1"])

    assert check_run(own)[0].lost == 1


def test_a_run_that_broke_a_promise_fails_in_words(own: Path) -> None:
    change(own / JOURNAL, *BROKEN["an event dropped"][1])

    with pytest.raises(RunFailed, match="of 12 acknowledged events 1 are lost, 0 doubled"):
        require_kept(own)


def test_the_command_prints_a_table_and_its_exit_code_tells(results: Path, own: Path) -> None:
    well = CliRunner().invoke(app, ["check", "history", str(results)])
    change(own / JOURNAL, *BROKEN["an event dropped"][1])
    badly = CliRunner().invoke(app, ["check", "history", str(results)])

    assert (well.exit_code, badly.exit_code) == (0, 1)
    assert badly.output.splitlines()[1].split() == ["tiny-0", "events", "12", "1", "0", "0"]


def test_a_folder_without_histories_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(PathMissing, match="--history"):
        check_runs(tmp_path)


@pytest.mark.parametrize("text", ["no json", "[1]", '{"what": "nothing"}', '{"user": 1}'])
def test_a_line_that_is_no_entry_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "device-1.jsonl"
    path.write_text(f"{json.dumps({'what': 'events-stored', 'user': 1, 'stored': 1})}\n{text}\n")

    with pytest.raises(BadLog, match="line 2"):
        list(read_history(path))
