"""A process, its memory and its turns."""

import os
import subprocess
import sys

import numpy as np
import pytest

from shared_models.contract.processes import (
    release_freed_memory,
    resident_bytes,
    schedule_as_batch,
)

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


SAY_THE_POLICY = "import os; print(os.sched_getscheduler(0))"
SCHEDULE = "from shared_models.contract.processes import schedule_as_batch; schedule_as_batch(); "


def policy_of_a_process_that(does: str, under: int) -> int:
    def begin() -> None:
        os.sched_setscheduler(0, under, os.sched_param(0))

    said = subprocess.run(
        [sys.executable, "-c", does], capture_output=True, text=True, check=True, preexec_fn=begin
    )
    return int(said.stdout)


def test_a_process_is_scheduled_as_batch_and_so_is_what_it_starts() -> None:
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SAY_THE_POLICY!r}])"

    assert policy_of_a_process_that(SCHEDULE + start, os.SCHED_OTHER) == os.SCHED_BATCH


def test_a_policy_that_somebody_chose_stays() -> None:
    does = SCHEDULE + SAY_THE_POLICY

    assert policy_of_a_process_that(does, os.SCHED_IDLE) == os.SCHED_IDLE


def test_a_kernel_that_allows_no_policy_leaves_the_process_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_getscheduler", lambda _: os.SCHED_OTHER)
    monkeypatch.setattr(os, "sched_setscheduler", refuse)

    schedule_as_batch()


def test_a_system_without_policies_leaves_the_process_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "sched_getscheduler")

    schedule_as_batch()
