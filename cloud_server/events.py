"""The journal of uploaded events: on disk before it is acknowledged, each event exactly once."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cloud_server.batcher import Batcher
from shared_models.contract.errors import BadAsk, BadSetting
from shared_models.contract.events import Event, EventBatch

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS events (
  user INTEGER NOT NULL, sequence INTEGER NOT NULL, item INTEGER NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (user, sequence)
) STRICT, WITHOUT ROWID
"""
_COUNT: Final = "SELECT coalesce(max(sequence) + 1, 0) FROM events WHERE user = ?"
# Another process may have written the same events meanwhile; any other conflict is an error.
_INSERT: Final = "INSERT INTO events VALUES (?, ?, ?, ?) ON CONFLICT (user, sequence) DO NOTHING"
_ALL: Final = "SELECT user, sequence, item, at FROM events ORDER BY user, sequence"

Upload = tuple[int, EventBatch]
"""A user and consecutive events of theirs."""


class Entry(NamedTuple):
    """An event in the journal."""

    user: int
    sequence: int
    event: Event


class EventJournal:
    """Each user's events from the first one on, without gaps, in an SQLite file.

    What `append` has returned for survives a killed process and a power cut. One thread at a time
    may use a journal.

    Raises:
        BadSetting: there is no such folder, or the file is not a journal.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(_TABLE)
        except sqlite3.DatabaseError as error:
            raise BadSetting("journal", f"{path} cannot be a journal: {error}") from error

    def append(self, uploads: Sequence[Upload]) -> list[int]:
        """Add what is new in ``uploads``, all of them in one commit.

        Returns:
            For each upload, how many events of its user are stored then. An upload that begins
            beyond them would leave a gap; nothing of it is taken.
        """
        with self._db:
            return [self._append(user, batch) for user, batch in uploads]

    def stored(self, user: int) -> int:
        """Number of events of ``user``."""
        (count,) = self._db.execute(_COUNT, (user,)).fetchone()
        return int(count)

    def __iter__(self) -> Iterator[Entry]:
        """Everything, by user and sequence number."""
        for user, sequence, item, at in self._db.execute(_ALL):
            yield Entry(user, sequence, Event(item, at))

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _append(self, user: int, batch: EventBatch) -> int:
        stored = self.stored(user)
        if batch.first > stored:
            return stored
        new = batch.events[stored - batch.first :]
        rows = [(user, stored + index, event.item, event.at) for index, event in enumerate(new)]
        self._db.executemany(_INSERT, rows)
        return stored + len(new)


class Uploads:
    """The way into a journal for many devices at once: those that wait share one commit."""

    def __init__(self, journal: EventJournal, *, largest: int, room: int) -> None:
        self._commits = Batcher(journal.append, largest=largest, room=room, name="journal")

    async def store(self, user: int, batch: EventBatch, *, waits: bool) -> int:
        """Put ``batch`` on disk; the number of ``user``'s events there.

        Raises:
            BadAsk: events before the batch are missing.
            Overloaded: too many uploads wait, and ``waits`` is false.
        """
        stored = await self._commits.submit((user, batch), waits=waits)
        if batch.first > stored:
            raise BadAsk(f"events start at {batch.first}, {stored} are stored: send on from there")
        return stored

    async def stored(self, user: int, *, waits: bool) -> int:
        """Number of ``user``'s events on disk."""
        return await self.store(user, EventBatch(0, ()), waits=waits)

    async def close(self) -> None:
        """Commit what waits."""
        await self._commits.close()
