"""What every memory refuses."""

# Shapes: B users, D a vector's width.

from collections.abc import Iterable, Mapping

import numpy as np

from cloud_server.memory.gather import Found
from cloud_server.memory.store import LIVE
from shared_models.contract.errors import BadAsk, UnknownName
from shared_models.contract.manifest import MemorySpec
from shared_models.contract.tensors import Float32Array, Int64Array


def by_name(specs: Iterable[MemorySpec]) -> dict[str, MemorySpec]:
    """Each spec under its name.

    Raises:
        ValueError: two have the same name.
    """
    named: dict[str, MemorySpec] = {}
    for spec in specs:
        if spec.name in named:
            raise ValueError(f"{spec.name!r} is there twice")
        named[spec.name] = spec
    return named


def spec_of(name: str, specs: Mapping[str, MemorySpec]) -> MemorySpec:
    """What is kept under ``name``.

    Raises:
        UnknownName: nothing is.
    """
    if name not in specs:
        raise UnknownName("memory vector", name, specs)
    return specs[name]


def check_write(
    spec: MemorySpec, users_B: Int64Array, vectors_BD: Float32Array, round: int
) -> None:
    """Look at what shall be stored.

    Raises:
        BadAsk: a number is not finite.
        ValueError: a user comes twice or has an id below 0, or the round, a shape or a dtype is
            wrong.
    """
    expected = (*users_B.shape[:1], spec.width)
    if users_B.ndim != 1 or vectors_BD.shape != expected or vectors_BD.dtype != np.float32:
        raise ValueError(
            f"{spec.name!r} of users {users_B.shape} wants float32 {expected}, "
            f"got {vectors_BD.dtype} {vectors_BD.shape}"
        )
    if round < LIVE:
        raise ValueError(f"there is no round {round}")
    ids, counts = np.unique(users_B, return_counts=True)
    if (ids < 0).any() or (counts > 1).any():
        wrong = ids[(ids < 0) | (counts > 1)].tolist()
        raise ValueError(f"users {wrong} come twice or are below 0")
    finite_B = np.isfinite(vectors_BD).all(axis=1)
    if not finite_B.all():
        raise BadAsk(f"{spec.name!r} of user {users_B[~finite_B][0]} is not finite")


def check_now(name: str, user: int, stored: int, round: int) -> None:
    """Refuse to write in ``round`` where something of a later round is ``stored``.

    Raises:
        BadAsk: it is, so the round is over.
    """
    if stored > round:
        raise BadAsk(f"{name!r} of user {user} is of round {stored}: round {round} is over")


def check_seen(name: str, found: Iterable[Found], round: int) -> None:
    """Refuse to show in ``round`` what was written in it or later.

    Raises:
        BadAsk: it was, so what others should see has been forgotten.
    """
    for each in found:
        if LIVE != round <= each.round:
            raise BadAsk(
                f"{name!r} of user {each.user} from before round {round} is no longer kept"
            )
