"""Which of several ends is told: the one that the others follow from."""

import signal
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from cloud_server.rows.launch import _ended
from cloud_server.rows.settings import RowsJob, RowsTraining


def failure(rank: int, exitcode: int, message: str = "") -> ProcessFailure:
    found = ProcessFailure(local_rank=rank, pid=1, exitcode=exitcode, error_file="none")
    found.message = message or found.message
    found.timestamp = 10 - rank
    return found


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        (
            [(1, "RuntimeError: lost a peer"), (-signal.SIGKILL, "")],
            "process 1 of 2 was ended by SIGKILL",
        ),
        (
            [(1, "RunFailed: diverged"), (-signal.SIGTERM, "")],
            "process 0 of 2 failed (RunFailed: diverged)",
        ),
        ([(1, "BadLog: b\nmore"), (1, "BadLog: a\nmore")], "process 1 of 2 failed (BadLog: a)"),
    ],
)
def test_the_cause_is_told_and_not_what_followed(
    ends: list[tuple[int, str]], says: str, tmp_path: Path
) -> None:
    failures = {rank: failure(rank, *end) for rank, end in enumerate(ends)}
    job = RowsJob(
        method="dlrm",
        config={},
        rows=tmp_path,
        training=RowsTraining(),
        seed=0,
        out=tmp_path,
        processes=2,
    )

    assert _ended(failures, job) == f"{says}; there is no checkpoint yet: run again"
