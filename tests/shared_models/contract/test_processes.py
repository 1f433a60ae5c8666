"""A process and its memory."""

import numpy as np

from shared_models.contract.processes import release_freed_memory, resident_bytes

PIECE, PIECES = 100_000, 1000
"""Small enough that the C library keeps what is freed, as it does with a training's tensors."""


def test_what_was_freed_below_something_in_use_goes_back_to_the_system() -> None:
    held = [np.ones(PIECE, np.uint8) for _ in range(PIECES)]
    newest = np.ones(PIECE, np.uint8)
    held.clear()
    before = resident_bytes()

    release_freed_memory()

    assert before - resident_bytes() > 0.5 * PIECE * PIECES
    assert newest.all()
