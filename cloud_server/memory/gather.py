"""From what a memory finds, in whatever order, to the arrays that were asked for."""

# Shapes: B users, U distinct ones, D a vector's width.

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from cloud_server.memory.store import Vectors
from shared_models.contract.tensors import Float32Array, Int64Array

_PLAIN: Final = np.dtype("<f4")


class Found(NamedTuple):
    """A user's vector as a memory holds it: which write it is, of which round, and its bytes."""

    user: int
    version: int
    round: int
    data: bytes


Find = Callable[[list[int]], Sequence[Found]]
"""Looks up distinct users; what it finds of those who have the vector."""


def gathered(users: Int64Array, width: int, find: Find) -> Vectors:
    """The vectors of ``users`` (any shape), each user looked up once."""
    distinct_U, places = np.unique(users, return_inverse=True)
    found = find(distinct_U.tolist())
    rows = np.searchsorted(distinct_U, np.array([each.user for each in found], np.int64))
    data = b"".join(each.data for each in found)
    values_UD = np.zeros((len(distinct_U), width), np.float32)
    values_UD[rows] = np.frombuffer(data, _PLAIN).reshape(-1, width)
    versions_U = np.zeros(len(distinct_U), np.int64)
    versions_U[rows] = [each.version for each in found]
    return Vectors(values_UD[places], versions_U[places])


def packed(vectors_BD: Float32Array) -> list[bytes]:
    """Each vector as bytes, little endian."""
    return [vector.tobytes() for vector in vectors_BD.astype(_PLAIN, copy=False)]
