"""Rows that are no log, as users train on them: one process or two, and when one of two dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest
import torch
from rich.console import Console

from cloud_server.checkpoints import read_tensors, write_tensors
from cloud_server.rows.checkpoint import CHECKPOINT
from cloud_server.rows.launch import train_together
from cloud_server.rows.origin import RowsOrigin, rows_job
from cloud_server.rows.settings import RowsJob, RowsTraining
from cloud_server.rows.team import Team
from cloud_server.rows.train import fingerprint, train_rows
from cloud_server.rows.worker import Reporter
from shared_models.contract.settings import parse_settings
from shared_models.logs.rows.prepared import RowsManifest, write_rows
from tests.e2e.conftest import ROOT, command
from tests.shared_models.logs.rows.tables import criteo_row, write_rows_table
from tests.shared_models.methods import golden_dlrm as golden

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
# Five tables for two processes, the smallest of which has 7 values for one of them and 90 for the
# other, and batches of 37 rows, of which the last one has a single row.
ROWS = 4627
SIZES = ("--set", "rows.tables=50-7-300-200-90")
RANDOM = ("--method", "dlrm", "--random", str(ROWS), *SIZES)
SMALL = ("--set", "dlrm.bottom=4-16-8", "--set", "dlrm.top=16-1", "--set", "rows.lookups=4")
STEPS = ("--set", "train.rows=37", "--set", "train.learning_rate=0.05")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    tensors, about = read_tensors(folder / CHECKPOINT)
    return {**tensors, "step": torch.tensor(about["step"])}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        ("dlrm.optimizer=rowwise-adagrad",),
        ("dlrm.optimizer=sgd", "dlrm.remainder=mult", "dlrm.threshold=15"),
        ("dlrm.optimizer=adagrad", "dlrm.mixed_dimension=true", "dlrm.threshold=15"),
    ],
    ids=" ".join,
)
def test_two_processes_come_to_the_weights_of_one(
    kind: Sequence[str], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*(text for text in (*SIZES, *SMALL, *STEPS) if text != "--set"), *kind]
    monkeypatch.setenv("CONCERTO_CACHE", str(cache))
    origin = RowsOrigin([], ROWS, 0)
    alone = rows_job("dlrm", origin, parse_settings(settings), 0, tmp_path / "1")
    train_rows(alone, Team(), torch.device("cpu"), Reporter(Console(), "", speaks=False))

    given = (part for each in kind for part in ("--set", each))
    out = ("--out", str(tmp_path / "2"), "--nproc", "2")
    options = (*RANDOM, *SMALL, *STEPS, *given, *out)
    done = command("cloud_server.cli", "train", *options, cache=cache, timeout=250)

    assert done.returncode == 0, done.stderr
    one, two = (weights(tmp_path / processes) for processes in "12")
    assert one["step"] == two["step"] == 101
    assert set(one) == set(two)
    for name, tensor in one.items():
        np.testing.assert_allclose(two[name], tensor, rtol=0, atol=1e-5, err_msg=name)
    assert sorted(path.name for path in (tmp_path / "2").iterdir()) == [CHECKPOINT]


@pytest.mark.slow
def test_two_processes_give_the_published_losses_and_weights(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    job = published_job(tmp_path)

    train_together(job)

    found = [float(line.split("loss ")[1]) for line in capfd.readouterr().out.splitlines()]
    np.testing.assert_allclose(found, golden.GOLDEN["published_losses"], rtol=0, atol=1e-5)
    trained = weights(job.out)
    for name, wanted in golden.GOLDEN["published_final"].items():
        np.testing.assert_allclose(trained[f"weights/{name}"], wanted, rtol=0, atol=3e-5)


def published_job(tmp_path: Path) -> RowsJob:
    """The published batches as prepared rows, and a checkpoint of no steps with the weights."""
    about = RowsManifest(
        name="published",
        dense=("d1", "d2", "d3", "d4"),
        values={f"c{n}": len(rows) for n, rows in enumerate(golden.TABLES)},
        rows={},
        encoding="as printed",
        hash="0",
    )
    frames = [published_frame(*batch) for batch in golden.batches()]
    rows = write_rows(tmp_path / "rows", about, [("train", frame) for frame in frames])
    training = RowsTraining(rows=2, learning_rate=0.01, shuffle=False, report_every=1)
    config = golden.architecture().model_dump(mode="json")
    out = tmp_path / "out"
    job = RowsJob(
        method="dlrm", config=config, rows=rows.folder, training=training, seed=0, out=out
    )
    tensors = {f"weights/{name}": tensor for name, tensor in golden.state().items()}
    for n, table in enumerate(golden.TABLES):
        tensors[f"moments/tables.{n}.rows"] = torch.zeros(len(table), 0)
    write_tensors(out / CHECKPOINT, tensors, {"fingerprint": fingerprint(job, rows), "step": 0})
    return job.model_copy(update={"processes": 2})


def published_frame(dense: torch.Tensor, bags: Any, target: torch.Tensor) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "label": target.numpy(),
            **{f"d{n + 1}": column.numpy() for n, column in enumerate(dense.t())},
            **{
                f"c{n}": pl.Series(of_table, dtype=pl.List(pl.Int64))
                for n, of_table in enumerate(bags)
            },
        }
    )


@contextmanager
def training(cache: Path, out: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A training of two processes that takes longer than any test."""
    arguments = ("train", *RANDOM, *SMALL, *options, "--nproc", "2", "--out", str(out))
    process = subprocess.Popen(
        [sys.executable, "-m", "cloud_server.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "CONCERTO_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        children = (
            psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        )
        for each in (process, *children):
            each.kill()
        process.wait(10)


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_leaves_a_checkpoint(cache: Path, tmp_path: Path) -> None:
    out, rank = tmp_path / "out", "1"
    long = ("--set", "train.epochs=100000", "--set", "train.rows=37", "--set", "train.save_every=5")

    with training(cache, out, *long) as process:
        wait_until((out / CHECKPOINT).is_file)
        children = psutil.Process(process.pid).children(recursive=True)
        (one,) = (child for child in children if child.environ().get("RANK") == rank)
        os.kill(one.pid, signal.SIGKILL)
        _, told = process.communicate(timeout=60)

    words = " ".join(told.split())
    assert process.returncode == 1, told
    assert f"error: process {rank} of 2 was ended by SIGKILL" in words
    assert "run the same command again to go on from there" in words
    assert told.startswith("error: ")
    assert "Traceback" not in told
    step = int(weights(out)["step"])
    assert step > 0
    assert f"is of step {step}" in words
    options = (*RANDOM, *SMALL, *long, "--out", str(out))
    done = command("cloud_server.cli", "infer", *options, cache=cache, timeout=250)
    assert done.returncode == 0, done.stderr
    assert len(pl.read_parquet(out / "predictions.parquet")) == 926


@pytest.mark.slow
def test_what_all_processes_find_wrong_is_told_once(cache: Path, tmp_path: Path) -> None:
    wild = ("--set", "train.learning_rate=1e20", "--set", "dlrm.optimizer=sgd")
    out = ("--out", str(tmp_path / "out"), "--nproc", "2")

    done = command(
        "cloud_server.cli", "train", *RANDOM, *SMALL, *wild, *out, cache=cache, timeout=250
    )

    assert done.returncode == 1, done.stderr
    assert done.stderr.count("lower train.learning_rate") == 1
    assert "there is no checkpoint yet" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def wait_until(holds: Any, seconds: float = 200) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it took too long"
        time.sleep(0.05)


def test_a_table_is_trained_on_scored_and_exported(cache: Path, tmp_path: Path) -> None:
    lines = [
        criteo_row(str(n % 2), [str(n), *[""] * 12], [f"{n % 5:x}", *[""] * 25]) for n in range(100)
    ]
    table = write_rows_table(tmp_path, lines)
    sizes = ("--set", "dlrm.bottom=13-8-4", "--set", "dlrm.top=8-1", "--set", "rows.values=50")
    options = ("--method", "dlrm", "--table", str(table), *sizes, "--out", str(tmp_path / "m"))

    for verb in ("train", "infer", "export"):
        done = command("cloud_server.cli", verb, *options, cache=cache, timeout=250)
        assert done.returncode == 0, done.stderr

    frame = pl.read_parquet(tmp_path / "m" / "predictions.parquet")
    assert frame["row"].to_list() == list(range(1, 21))
    assert frame["label"].to_list() == [n % 2 for n in range(80, 100)]
    assert frame["probability"].is_between(0, 1).all()
    assert json.loads((tmp_path / "m" / "metrics.json").read_text())["rows"] == 20
    assert (tmp_path / "m" / "rows.onnx").is_file()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--method", "dlrm"), "row 2, column '1 (label)': expected 0 or 1, found '7'"),
        (("--method", "dlrm", "--log", "synthetic"), "no --log, --split or --*-col"),
        (("--method", "dlrm", "--random", "10"), "give --table or --random"),
        (("--method", "dlrm", "--set", "dlrm.bottom=4-8"), "has 13 dense features"),
        (("--method", "dlrm", "--set", "dlrm.bottom=13-x"), "expected sizes as in 13-512"),
        (("--method", "dlrm", "--set", "train.patience=3"), "unknown setting 'train.patience'"),
        (("--method", "base"), "base has no such format"),
    ],
)
def test_what_cannot_be_read_is_told_and_nothing_is_written(
    options: tuple[str, ...], says: str, cache: Path, tmp_path: Path
) -> None:
    table = write_rows_table(tmp_path, [criteo_row(), criteo_row(label="7")])
    out = ("--table", str(table), "--out", str(tmp_path / "out"))

    done = command("cloud_server.cli", "train", *options, *out, cache=cache)

    refused(done, says, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--method", "base", "--random", "10"), "base does not learn from rows"),
        ((*RANDOM, *SMALL, "--nproc", "6"), "6 processes for 5 tables"),
        (("--method", "base", "--log", "synthetic", "--nproc", "2"), "'nproc': is of rows"),
    ],
)
def test_processes_and_random_rows_are_of_methods_that_learn_from_rows(
    options: tuple[str, ...], says: str, cache: Path, tmp_path: Path
) -> None:
    out = ("--out", str(tmp_path / "out"))

    done = command("cloud_server.cli", "train", *options, *out, cache=cache)

    refused(done, says, tmp_path / "out")


def refused(done: subprocess.CompletedProcess[str], says: str, out: Path) -> None:
    assert done.returncode == 2, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not out.exists()
