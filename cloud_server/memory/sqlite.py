"""A memory that outlives its process: an SQLite file that many processes may share."""

# Shapes: B users, D a vector's width.

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from typing_extensions import override

from cloud_server.durable import durable
from cloud_server.failpoints import failpoint
from cloud_server.memory.checks import by_name, check_now, check_seen, check_write, spec_of
from cloud_server.memory.gather import Found, gathered, packed
from cloud_server.memory.store import LIVE, UserMemory, Vectors
from shared_models.contract.errors import BadSetting
from shared_models.contract.manifest import MemorySpec
from shared_models.contract.tensors import Float32Array, Int64Array

_PATIENCE_S: Final = 60.0
"""How long a process waits for another one's commit."""
_SPECS: Final = """
CREATE TABLE IF NOT EXISTS specs (name TEXT PRIMARY KEY, width INTEGER NOT NULL)
STRICT, WITHOUT ROWID
"""
_VECTORS: Final = """
CREATE TABLE IF NOT EXISTS vectors (
  name TEXT NOT NULL, user INTEGER NOT NULL,
  version INTEGER NOT NULL, round INTEGER NOT NULL, data BLOB NOT NULL,
  settled_version INTEGER NOT NULL, settled_round INTEGER NOT NULL, settled_data BLOB NOT NULL,
  PRIMARY KEY (name, user)
) STRICT, WITHOUT ROWID
"""
_DECLARE: Final = "INSERT INTO specs VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
_WIDTH: Final = "SELECT width FROM specs WHERE name = ?"
# What is of a later round stays as it is: `put` sees it afterwards and takes all of its rows back.
_PUT: Final = """
INSERT INTO vectors VALUES (?, ?, 1, ?, ?, 0, 0, x'')
ON CONFLICT (name, user) DO UPDATE SET
  settled_version = iif(excluded.round > round, version, settled_version),
  settled_round = iif(excluded.round > round, round, settled_round),
  settled_data = iif(excluded.round > round, data, settled_data),
  version = version + 1, round = excluded.round, data = excluded.data
WHERE excluded.round >= round AND excluded.data != data
"""
_STATE: Final = """
SELECT user, version, round FROM vectors
WHERE name = ? AND user IN (SELECT value FROM json_each(?))
"""
_SEEN: Final = """
WITH wanted AS (
  SELECT *, :round = :live OR round < :round AS is_seen FROM vectors
  WHERE name = :name AND user IN (SELECT value FROM json_each(:users))
)
SELECT user, iif(is_seen, version, settled_version), iif(is_seen, round, settled_round),
  iif(is_seen, data, settled_data)
FROM wanted
"""
_USERS: Final = "SELECT user FROM vectors WHERE name = ? ORDER BY user"


class SqliteMemory(UserMemory):
    """Vectors in a file; what `put` has returned for survives a killed process and a power cut.

    Args:
        path: of the file; made where there is none.
        specs: what is kept; others may keep other vectors there.

    Raises:
        BadSetting: there is no such folder, the file is no memory, or it holds a vector of
            another width.
    """

    def __init__(self, path: Path, specs: Iterable[MemorySpec]) -> None:
        self._specs = by_name(specs)
        try:
            self._db = _opened(path)
            self._declare(path)
        except sqlite3.DatabaseError as error:
            raise BadSetting("memory", f"{path} cannot be a memory: {error}") from error

    @override
    def put(
        self, name: str, users_B: Int64Array, vectors_BD: Float32Array, round: int
    ) -> Int64Array:
        spec = spec_of(name, self._specs)
        check_write(spec, users_B, vectors_BD, round)
        users = users_B.tolist()
        rows = zip(users, packed(vectors_BD), strict=True)
        failpoint("memory.before-write")
        with self._db:
            self._db.executemany(_PUT, [(name, user, round, data) for user, data in rows])
            versions = {}
            for user, version, stored in self._db.execute(_STATE, (name, json.dumps(users))):
                check_now(name, user, stored, round)
                versions[user] = version
            failpoint("memory.before-commit")
        failpoint("memory.after-commit")
        return np.array([versions[user] for user in users], np.int64)

    @override
    def get(self, name: str, users: Int64Array) -> Vectors:
        return self.neighbours(name, users, LIVE)

    @override
    def neighbours(self, name: str, users: Int64Array, round: int) -> Vectors:
        spec = spec_of(name, self._specs)
        return gathered(users, spec.width, lambda ids: self._found(name, ids, round))

    @override
    def users(self, name: str) -> Int64Array:
        spec = spec_of(name, self._specs)
        return np.array([user for (user,) in self._db.execute(_USERS, (spec.name,))], np.int64)

    @override
    def close(self) -> None:
        self._db.close()

    def _declare(self, path: Path) -> None:
        """Write down what is kept, unless it is known; two processes may do so at once."""
        with self._db:
            for spec in self._specs.values():
                self._db.execute(_DECLARE, (spec.name, spec.width))
                (width,) = self._db.execute(_WIDTH, (spec.name,)).fetchone()
                if width != spec.width:
                    raise BadSetting(
                        "memory", f"{path} holds {spec.name!r} of width {width}, not {spec.width}"
                    )

    def _found(self, name: str, users: list[int], round: int) -> list[Found]:
        wanted = {"name": name, "users": json.dumps(users), "round": round, "live": LIVE}
        found = [Found(*row) for row in self._db.execute(_SEEN, wanted)]
        check_seen(name, found, round)
        return [each for each in found if each.version]


def _opened(path: Path) -> sqlite3.Connection:
    """The file, with its tables; a transaction that writes holds the file from its first row on."""
    db = durable(path, timeout=_PATIENCE_S, isolation_level="IMMEDIATE")
    db.execute(_SPECS)
    db.execute(_VECTORS)
    return db
