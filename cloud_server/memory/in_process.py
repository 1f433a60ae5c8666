"""A memory that ends with its process: the rules in plain words, for tests and short replays."""

# Shapes: B users, D a vector's width.

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from typing_extensions import override

from cloud_server.memory.checks import by_name, check_now, check_seen, check_write, spec_of
from cloud_server.memory.gather import Found, gathered, packed
from cloud_server.memory.store import LIVE, UserMemory, Vectors
from shared_models.contract.manifest import MemorySpec
from shared_models.contract.tensors import Float32Array, Int64Array


@dataclass(frozen=True, slots=True)
class _Write:
    """A vector as it was written; version 0 is none."""

    version: int
    round: int
    data: bytes


_NOTHING: Final = _Write(0, 0, b"")


@dataclass(frozen=True, slots=True)
class _Kept:
    """A user's newest vector, and the newest from before its round."""

    latest: _Write = _NOTHING
    settled: _Write = _NOTHING

    def then(self, data: bytes, round: int) -> "_Kept":
        """What is kept once ``data`` is written in ``round``."""
        if data == self.latest.data:
            return self
        settled = self.latest if round > self.latest.round else self.settled
        return _Kept(_Write(self.latest.version + 1, round, data), settled)

    def seen_in(self, round: int) -> _Write:
        """What others see in ``round``."""
        return self.latest if round == LIVE or self.latest.round < round else self.settled


class InProcessMemory(UserMemory):
    """Vectors in dictionaries.

    Args:
        specs: what is kept.
    """

    def __init__(self, specs: Iterable[MemorySpec]) -> None:
        self._specs = by_name(specs)
        self._kept: dict[str, dict[int, _Kept]] = {name: {} for name in self._specs}

    @override
    def put(
        self, name: str, users_B: Int64Array, vectors_BD: Float32Array, round: int
    ) -> Int64Array:
        spec = spec_of(name, self._specs)
        check_write(spec, users_B, vectors_BD, round)
        kept, new = self._kept[name], {}
        for user, data in zip(users_B.tolist(), packed(vectors_BD), strict=True):
            before = kept.get(user, _Kept())
            check_now(name, user, before.latest.round, round)
            new[user] = before.then(data, round)
        kept.update(new)
        return np.array([each.latest.version for each in new.values()], np.int64)

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
        return np.array(sorted(self._kept[spec.name]), np.int64)

    @override
    def close(self) -> None:
        self._kept.clear()

    def _found(self, name: str, users: list[int], round: int) -> list[Found]:
        kept = self._kept[name]
        seen = ((user, kept[user].seen_in(round)) for user in users if user in kept)
        found = [Found(user, each.version, each.round, each.data) for user, each in seen]
        check_seen(name, found, round)
        return [each for each in found if each.version]
