"""The journal of uploaded events: on disk before it is acknowledged, each event exactly once."""

# Shapes: B users, T newest events of each.

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from cloud_server.batcher import Batcher
from cloud_server.durable import durable
from cloud_server.failpoints import failpoint
from shared_models.contract.errors import BadAsk, BadSetting
from shared_models.contract.events import Event, EventBatch
from shared_models.contract.features import encode_windows
from shared_models.contract.tensors import Int64Array

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS events (
  user INTEGER NOT NULL, sequence INTEGER NOT NULL, item INTEGER NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (user, sequence)
) STRICT, WITHOUT ROWID
"""
_COUNT: Final = "SELECT coalesce(max(sequence) + 1, 0) FROM events WHERE user = ?"
# Another process may have written the same events meanwhile; any other conflict is an error.
_INSERT: Final = "INSERT INTO events VALUES (?, ?, ?, ?) ON CONFLICT (user, sequence) DO NOTHING"
# Another process may have stored newer events than this one knows of.
_FORGET: Final = """
DELETE FROM events WHERE user = ?1
  AND sequence <= (SELECT max(sequence) FROM events WHERE user = ?1) - ?2
"""
_NEWEST: Final = "SELECT item FROM events WHERE user = ? ORDER BY sequence DESC LIMIT ?"
_ANY: Final = "SELECT EXISTS (SELECT 1 FROM events)"
_ALL: Final = "SELECT user, sequence, item, at FROM events ORDER BY user, sequence"

Upload = tuple[int, EventBatch]
"""A user and consecutive events of theirs."""


class Entry(NamedTuple):
    """An event in the journal."""

    user: int
    sequence: int
    event: Event


class EventJournal:
    """Each user's events, numbered from the first one on without gaps, in an SQLite file.

    What `append` has returned for survives a killed process and a power cut. One thread at a time
    may use a journal.

    Args:
        path: of the file; made where there is none.
        keep: how many of a user's events stay, 1 or more, the newest ones; older ones go when
            that user's next events come. None keeps all.

    Attributes:
        appended: how many events `append` has put there.

    Raises:
        BadSetting: there is no such folder, or the file is not a journal.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        if keep is not None and keep < 1:
            raise ValueError(f"keep {keep} would forget how many events a user has")
        self._path, self._keep, self.appended = path, keep, 0
        try:
            self._db = durable(path)
            self._db.execute(_TABLE)
        except sqlite3.DatabaseError as error:
            raise BadSetting("journal", f"{path} cannot be a journal: {error}") from error

    def append(self, uploads: Sequence[Upload]) -> list[int]:
        """Add what is new in ``uploads``, all of them in one commit.

        Returns:
            For each upload, how many events of its user are stored then. An upload that begins
            beyond them would leave a gap; nothing of it is taken.
        """
        failpoint("journal.before-write")
        with self._db:
            taken = [self._append(user, batch) for user, batch in uploads]
            failpoint("journal.before-commit")
        failpoint("journal.after-commit")
        self.appended += sum(new for _, new in taken)
        return [stored for stored, _ in taken]

    def seed(self, events: pl.DataFrame) -> None:
        """Fill an empty journal with what is known from before it began, all in one commit.

        Args:
            events: columns ``user``, ``seq`` (a user's have no gap), ``item`` and ``at``, in any
                order; what `append` would not keep is left out.

        Raises:
            BadSetting: the journal is not empty.
            ValueError: a user's numbers have a gap, or one comes twice.
        """
        rows = events.select("user", "seq", "item", "at").sort("user", "seq")
        if rows.select((pl.col("seq").diff() != 1).over("user").any()).item():
            raise ValueError("the events of a user are not numbered one after the other")
        if self._keep is not None:
            rows = rows.filter(pl.col("seq") > pl.col("seq").max().over("user") - self._keep)
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if self._db.execute(_ANY).fetchone() != (0,):
                raise BadSetting(
                    "journal", f"{self._path} holds events: only an empty one is seeded"
                )
            self._db.executemany(_INSERT, rows.iter_rows())

    def stored(self, user: int) -> int:
        """Number of events of ``user``, those that are no longer kept included."""
        (count,) = self._db.execute(_COUNT, (user,)).fetchone()
        return int(count)

    def newest(self, users_B: Int64Array, length: int) -> Int64Array:
        """The newest ``length`` items of each user, oldest first, right-padded: int64 (B, T)."""
        # One statement that joins all users is not faster (64 users, 10 to 100 items).
        wanted = ((user, length) for user in users_B.tolist())
        newest_first = [self._db.execute(_NEWEST, each).fetchall() for each in wanted]
        return encode_windows([[item for (item,) in rows[::-1]] for rows in newest_first], length)

    def __iter__(self) -> Iterator[Entry]:
        """Everything that is kept, by user and sequence number."""
        for user, sequence, item, at in self._db.execute(_ALL):
            yield Entry(user, sequence, Event(item, at))

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _append(self, user: int, batch: EventBatch) -> tuple[int, int]:
        """How many events of ``user`` are stored then, and how many of these are new."""
        stored = self.stored(user)
        if batch.first > stored:
            return stored, 0
        new = batch.events[stored - batch.first :]
        rows = [(user, stored + index, event.item, event.at) for index, event in enumerate(new)]
        self._db.executemany(_INSERT, rows)
        if self._keep is not None:
            self._db.execute(_FORGET, (user, self._keep))
        return stored + len(new), len(new)


class Uploads:
    """The way into a journal for many devices at once: those that wait share one commit.

    Attributes:
        commits: where uploads wait for theirs.
    """

    def __init__(self, journal: EventJournal, *, largest: int, room: int) -> None:
        self._journal = journal
        self.commits = Batcher(journal.append, largest=largest, room=room, name="journal")

    @property
    def appended(self) -> int:
        """Events put on disk so far."""
        return self._journal.appended

    async def store(self, user: int, batch: EventBatch, *, waits: bool) -> int:
        """Put ``batch`` on disk; the number of ``user``'s events there.

        Raises:
            BadAsk: events before the batch are missing.
            Overloaded: too many uploads wait, and ``waits`` is false.
        """
        stored = await self.commits.submit((user, batch), waits=waits)
        if batch.first > stored:
            raise BadAsk(f"events start at {batch.first}, {stored} are stored: send on from there")
        return stored

    async def stored(self, user: int, *, waits: bool) -> int:
        """Number of ``user``'s events on disk."""
        return await self.store(user, EventBatch(0, ()), waits=waits)

    async def close(self) -> None:
        """Commit what waits."""
        await self.commits.close()
