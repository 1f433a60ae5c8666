"""Starts the processes of a training on rows, by torch's own launcher, and tells how they ended."""

import logging
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from cloud_server.checkpoints import read_tensors
from cloud_server.hardware import choose_device
from cloud_server.rows.checkpoint import CHECKPOINT
from cloud_server.rows.settings import RowsJob
from shared_models.contract.errors import BadSetting, RunFailed

_WORKER: Final = "cloud_server.rows.worker"


def train_together(job: RowsJob) -> None:
    """Train by ``job.processes`` processes on this machine.

    Raises:
        BadSetting: there are fewer GPUs, of which each process needs one.
        RunFailed: one of them ended badly, which ends them all; the last checkpoint is kept.
    """
    _refuse_too_few_gpus(job)
    _silence()
    with TemporaryDirectory() as folder:
        told = Path(folder) / "job.json"
        told.write_text(job.model_dump_json())
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=job.processes,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            run_id="rows",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder, redirects=Std.ERR),
        )
        try:
            elastic_launch(config, sys.executable)("-m", _WORKER, str(told))
        except ChildFailedError as error:
            raise RunFailed(_ended(error.failures, job)) from error
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from error
            raise RunFailed(f"ended by {error.sigval.name}; {_kept(job)}") from error


def _refuse_too_few_gpus(job: RowsJob) -> None:
    there = torch.cuda.device_count()
    if choose_device(job.training.device).type == "cuda" and job.processes > there:
        raise BadSetting(
            "nproc",
            f"{job.processes} processes for {there} GPU{'s' * (there != 1)}: each must have one; "
            "or set train.device=cpu",
        )


def _silence() -> None:
    """The error tells what went wrong, once; each logger of the launcher has a level of its own."""
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _ended(failures: dict[int, ProcessFailure], job: RowsJob) -> str:
    rank, failure = min(failures.items(), key=lambda each: _how_late(each[1]))
    how = f"was ended by {failure.signal_name()}" if failure.exitcode < 0 else "failed"
    message = "" if failure.exitcode < 0 else f" ({_told(failure)})"
    return f"process {rank} of {job.processes} {how}{message}; {_kept(job)}"


def _how_late(failure: ProcessFailure) -> tuple[int, int]:
    """Grows from cause to consequence: killed from outside, failed, ended by the launcher."""
    if failure.exitcode == -signal.SIGTERM:
        return 2, failure.timestamp
    # Who lost a peer fails too.
    return int(failure.exitcode >= 0), failure.timestamp


def _told(failure: ProcessFailure) -> str:
    """The first line of what a process said at its end, as ``RunFailed: training diverged``."""
    told: Any = failure.message
    while isinstance(told, dict):
        told = told["message"]
    return str(told).splitlines()[0]


def _kept(job: RowsJob) -> str:
    path = job.out / CHECKPOINT
    if not path.is_file():
        return "there is no checkpoint yet: run again"
    step = read_tensors(path, lambda _: False)[1]["step"]
    return f"{path} is of step {step}: run the same command again to go on from there"
