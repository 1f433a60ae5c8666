"""Contributions on disk before they are acknowledged, and the versions that were made of them."""

# Shapes: P numbers in all slots together.

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from cloud_server.durable import durable
from cloud_server.failpoints import failpoint
from shared_models.contract.errors import BadSetting
from shared_models.contract.tensors import Float32Array

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS contributors (
  lineage TEXT NOT NULL, user INTEGER NOT NULL, stored INTEGER NOT NULL,
  PRIMARY KEY (lineage, user)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (
  lineage TEXT NOT NULL, team INTEGER NOT NULL, user INTEGER NOT NULL, round INTEGER NOT NULL,
  examples INTEGER NOT NULL, move BLOB NOT NULL,
  PRIMARY KEY (lineage, team, user)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS released (
  lineage TEXT NOT NULL, team INTEGER NOT NULL, version INTEGER NOT NULL, vector BLOB NOT NULL,
  PRIMARY KEY (lineage, team)
) STRICT, WITHOUT ROWID;
"""
_STORED: Final = "SELECT stored FROM contributors WHERE lineage = ? AND user = ?"
_COUNT: Final = """
INSERT INTO contributors VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET stored = stored + 1
"""
_ADDED: Final = "SELECT examples, move FROM waiting WHERE lineage = ? AND team = ? AND user = ?"
_WAIT: Final = "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?, ?)"
_DUE: Final = "SELECT DISTINCT team FROM waiting WHERE lineage = ? AND round < ? ORDER BY team"
_CROWD: Final = "SELECT count(*) FROM waiting WHERE lineage = ? AND team = ?"
_TAKE: Final = """
SELECT user, examples, move FROM waiting WHERE lineage = ? AND team = ? AND round < ? ORDER BY user
"""
_FORGET: Final = "DELETE FROM waiting WHERE lineage = ? AND team = ? AND round < ?"
_NEWEST: Final = "SELECT version, vector FROM released WHERE lineage = ? AND team = ?"
_RELEASE: Final = "INSERT OR REPLACE INTO released VALUES (?, ?, ?, ?)"
ALL: Final = 1 << 62
"""Beyond every round."""


class Waiting(NamedTuple):
    """What a user has contributed to a group's next version."""

    user: int
    examples: int
    move: Float32Array


class Version(NamedTuple):
    """What a group shares (P,), and how often it was released anew."""

    number: int
    vector: Float32Array


class ContributionJournal:
    """Each user's contributions, exactly once, in an SQLite file.

    What waits for the next version is kept as one move for each user, to which later contributions
    add, so that the file is bounded by its users. One thread at a time may use a journal; what it
    does within `commit` is on disk after that, or not done at all.

    Args:
        path: of the file; made where there is none.

    Raises:
        BadSetting: there is no such folder, or the file is not a journal.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._db = durable(path)
            self._db.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            raise BadSetting("contributions", f"{path} cannot be a journal: {error}") from error

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Everything inside is written at once, or nothing of it."""
        with self._db:
            yield
        failpoint("contribution.after-commit")

    def stored(self, lineage: str, user: int) -> int:
        """Number of contributions of ``user`` that were ever added."""
        row = self._db.execute(_STORED, (lineage, user)).fetchone()
        return int(row[0]) if row else 0

    def add(self, lineage: str, group: int, round_: int, new: Waiting) -> None:
        """Count a contribution, and add it to what waits of its user."""
        failpoint("contribution.before-write")
        self._db.execute(_COUNT, (lineage, new.user))
        row = self._db.execute(_ADDED, (lineage, group, new.user)).fetchone()
        examples, move = new.examples, new.move
        if row:
            examples, move = examples + row[0], move + _vector(row[1])
        data = move.astype("<f4").tobytes()
        self._db.execute(_WAIT, (lineage, group, new.user, round_, examples, data))
        failpoint("contribution.written")

    def due(self, lineage: str, round_: int) -> list[int]:
        """Groups for which something waits from before a round."""
        return [group for (group,) in self._db.execute(_DUE, (lineage, round_))]

    def contributors(self, lineage: str, group: int) -> int:
        """Users of whom something waits."""
        (count,) = self._db.execute(_CROWD, (lineage, group)).fetchone()
        return int(count)

    def waiting(self, lineage: str, group: int, before: int = ALL) -> list[Waiting]:
        """What waits from before a round, in the order of users."""
        rows = self._db.execute(_TAKE, (lineage, group, before))
        return [Waiting(user, examples, _vector(data)) for user, examples, data in rows]

    def newest(self, lineage: str, group: int) -> Version | None:
        """The newest version; None where none was released."""
        row = self._db.execute(_NEWEST, (lineage, group)).fetchone()
        return Version(row[0], _vector(row[1])) if row else None

    def release(self, lineage: str, group: int, version: Version, before: int = ALL) -> None:
        """Put ``version`` in the place of the last one, and forget what it was made of."""
        data = version.vector.astype("<f4").tobytes()
        self._db.execute(_RELEASE, (lineage, group, version.number, data))
        failpoint("contribution.version")
        self._db.execute(_FORGET, (lineage, group, before))

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def _vector(data: bytes) -> Float32Array:
    return np.frombuffer(data, "<f4").astype(np.float32)
