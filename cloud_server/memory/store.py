"""What the cloud remembers of each user: named vectors, as the replay's virtual time shows them.

A replay advances in rounds, and inside one everything happens at once. So a user has what their
own device had stored a moment ago, while others see what was there before the round began: no
result depends on who came first. Outside replays there is but the round `LIVE`, in which
everybody sees everything at once.
"""

# Shapes: B users, D a vector's width.

from dataclasses import dataclass
from typing import Final, Protocol

from shared_models.contract.tensors import Float32Array, Int64Array

LIVE: Final = 0
"""The round of a service outside replays."""
NOBODY: Final = -1
"""Id that fills up a list of users; nobody has it."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors of users, shaped as their ids were; the caller's to change.

    Attributes:
        values: float32 (..., D); zeros where nothing is stored.
        versions: int64 (...): how often each was written with something new, 0 where nothing is.
    """

    values: Float32Array
    versions: Int64Array


class UserMemory(Protocol):
    """Each user's newest vectors, and the newest from before the round that wrote those.

    What the vectors are is said once, by the specs that a memory is made with. One thread at a
    time may use it.
    """

    def put(
        self, name: str, users_B: Int64Array, vectors_BD: Float32Array, round: int
    ) -> Int64Array:
        """Keep a vector of each user, of all of them or none, durably where the memory is.

        A version starts at 1 and grows by 1. A vector that equals the newest to the bit changes
        nothing, so a write may be repeated.

        Returns:
            The versions (B,).

        Raises:
            UnknownName: the memory has no such vector.
            BadAsk: a number is not finite, or a user has a vector of a later round already.
            ValueError: a user comes twice or has an id below 0, or a shape or dtype is wrong.
        """
        ...

    def get(self, name: str, users: Int64Array) -> Vectors:
        """Each user's newest vector, as their own device sees it.

        Args:
            name: of the vector.
            users: int64, any shape.

        Raises:
            UnknownName: the memory has no such vector.
        """
        ...

    def neighbours(self, name: str, users: Int64Array, round: int) -> Vectors:
        """What others see of these users: the newest from before ``round``; in `LIVE`, the newest.

        Args:
            name: of the vector.
            users: int64, any shape; `NOBODY` where a list is short.
            round: now.

        Raises:
            UnknownName: the memory has no such vector.
            BadAsk: a user has since written in this round and later ones, and what was there
                before is gone.
        """
        ...

    def users(self, name: str) -> Int64Array:
        """Ids of all who have such a vector, ascending.

        Raises:
            UnknownName: the memory has no such vector.
        """
        ...

    def close(self) -> None:
        """Let go of what holds the memory."""
        ...
