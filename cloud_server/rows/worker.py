"""One process of a training on rows, as torch's launcher starts it.

`cloud_server.rows.launch` does so, and reads the error that it leaves.
"""

import os
import sys
from pathlib import Path

import torch
from rich.console import Console
from torch.distributed.elastic.multiprocessing.errors import record

from cloud_server.hardware import choose_device
from cloud_server.rows.settings import RowsJob
from cloud_server.rows.team import Team
from cloud_server.rows.train import train_rows


class Reporter:
    """Prints a line for each report, where it is told to."""

    def __init__(self, console: Console, label: str, *, speaks: bool = True) -> None:
        self._console, self._label, self._speaks = console, label, speaks

    def on_report(self, step: int, steps: int, loss: float) -> None:
        """As in ``dlrm (rows, seed 0) · step 100 of 500: loss 0.6931``."""
        if self._speaks:
            line = f"{self._label} · step {step:,} of {steps:,}: loss {loss:.6f}"
            self._console.print(line, highlight=False)


def device_of(job: RowsJob) -> torch.device:
    """This process's: a GPU of its own, where there are any."""
    device = choose_device(job.training.device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device


@record
def main() -> None:
    """Train this process's part."""
    torch.set_num_threads(1)
    job = RowsJob.model_validate_json(Path(sys.argv[1]).read_text())
    device = device_of(job)
    with Team.joined(device, job.training.patience_s) as team:
        watcher = Reporter(Console(), job.label, speaks=team.rank == 0)
        train_rows(job, team, device, watcher)


if __name__ == "__main__":
    main()
