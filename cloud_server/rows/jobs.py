"""The training verbs over rows that are no log: what they do with one model's folder.

It holds ``rows.safetensors``, and after evaluate or infer ``metrics.json`` and
``predictions.parquet``, after export ``rows.onnx``.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import torch
from rich.console import Console

from cloud_server.rows.infer import exported, load_rows_model, measured, predictions
from cloud_server.rows.launch import train_together
from cloud_server.rows.settings import RowsJob
from cloud_server.rows.team import Team
from cloud_server.rows.train import train_rows
from cloud_server.rows.worker import Reporter, device_of
from shared_models.contract.errors import BadSetting
from shared_models.logs.rows.prepared import PreparedRows


def run_train(job: RowsJob) -> None:
    """Train, on as many processes as the job says."""
    console = Console()
    categories = len(PreparedRows.open(job.rows).values)
    if job.processes > categories:
        raise BadSetting(
            "nproc", f"{job.processes} processes for {categories} tables: each must have one"
        )
    if job.processes > 1:
        train_together(job)
    else:
        torch.set_num_threads(1)
        train_rows(job, Team(), device_of(job), Reporter(console, job.label))
    console.print(f"next: concerto-cloud infer with the same options and --out {job.out}")


def run_evaluate(job: RowsJob) -> None:
    """Score the test part, and write metrics.json."""
    _scored(job, write=False)


def run_infer(job: RowsJob) -> None:
    """As evaluate, and every probability into predictions.parquet."""
    _scored(job, write=True)


def run_export(job: RowsJob) -> None:
    """Compile the model into an ONNX graph."""
    torch.set_num_threads(1)
    graph = exported(load_rows_model(job), PreparedRows.open(job.rows))
    path = job.out / "rows.onnx"
    draft = path.with_suffix(".draft")
    draft.write_bytes(graph)
    draft.replace(path)
    Console().print(f"{path}  {len(graph) / 1024:.0f} KiB", soft_wrap=True)


def _scored(job: RowsJob, *, write: bool) -> None:
    torch.set_num_threads(1)
    console = Console()
    frame = predictions(load_rows_model(job), PreparedRows.open(job.rows))
    if write:
        draft = job.out / "predictions.draft"
        frame.write_parquet(draft)
        _keep(draft, job.out / "predictions.parquet", console)
    found = measured(frame)
    draft = job.out / "metrics.draft"
    draft.write_text(json.dumps(found, indent=1, sort_keys=True))
    console.print_json(data=found)
    _keep(draft, job.out / "metrics.json", console)


def _keep(draft: Path, path: Path, console: Console) -> None:
    draft.replace(path)
    console.print(f"written: {path}", soft_wrap=True)


VERBS: Final[Mapping[str, Callable[[RowsJob], None]]] = {
    "train": run_train,
    "export": run_export,
    "evaluate": run_evaluate,
    "infer": run_infer,
}
