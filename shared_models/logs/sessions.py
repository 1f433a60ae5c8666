"""Sessions: what a user does without a long pause, cut where it goes on too long."""

# Shapes: E events.

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared_models.contract.tensors import Int64Array

PAUSE_S: Final = 1800.0
"""A longer pause ends a session."""
LONGEST: Final = 20
"""Events of a session; the next one begins another."""


def places(user_E: Int64Array, at_E: NDArray[np.float64]) -> Int64Array:
    """How many events of its session come before each event: int64 (E,), 0 where one begins.

    Args:
        user_E: int64, one user after the other.
        at_E: seconds, in order for each user.
    """
    index_E = np.arange(len(user_E))
    begins_E = np.ones(len(user_E), bool)
    begins_E[1:] = (np.diff(user_E) != 0) | (np.diff(at_E) > PAUSE_S)
    since_E: Int64Array = index_E - np.maximum.accumulate(np.where(begins_E, index_E, 0))
    return since_E % LONGEST
