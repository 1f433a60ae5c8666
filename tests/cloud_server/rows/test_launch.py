"""Which of several ends is told: the one that the others follow from."""

import signal
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from cloud_server.rows import launch
from cloud_server.rows.launch import _ended, train_together
from cloud_server.rows.settings import RowsJob, RowsTraining
from shared_models.contract.errors import BadSetting


def failure(rank: int, exitcode: int, message: str = "") -> ProcessFailure:
    found = ProcessFailure(local_rank=rank, pid=1, exitcode=exitcode, error_file="none")
    found.message = message or found.message
    found.timestamp = 10 - rank
    return found


def of_two(folder: Path, **training: str) -> RowsJob:
    return RowsJob(
        method="dlrm",
        config={},
        rows=folder,
        training=RowsTraining.model_validate(training),
        seed=0,
        out=folder,
        processes=2,
    )


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

    assert _ended(failures, of_two(tmp_path)) == f"{says}; there is no checkpoint yet: run again"


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_more_processes_than_gpus_are_refused_before_one_is_started(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    started: list[object] = []
    monkeypatch.setattr(launch, "elastic_launch", lambda *_: lambda *told: started.append(told))

    with pytest.raises(BadSetting, match=r"2 processes for 1 GPU: .* train\.device=cpu") as told:
        train_together(of_two(tmp_path, device=device))
    train_together(of_two(tmp_path, device="cpu"))

    assert told.value.path == "nproc"
    assert len(started) == 1
