"""How long to wait before the next try."""

from collections.abc import Iterator
from typing import Final

import numpy as np

_FIRST_S: Final = 0.1
_LONGEST_S: Final = 1.0


def delays(seed: int) -> Iterator[float]:
    """Seconds between tries: from 0.1, doubling up to 1, each shortened by up to a half.

    Args:
        seed: whoever waits at the same time should differ in it, so that not all come back at once.
    """
    rng = np.random.default_rng(seed)
    longest = _FIRST_S
    while True:
        yield longest * float(rng.uniform(0.5, 1.0))
        longest = min(2 * longest, _LONGEST_S)
