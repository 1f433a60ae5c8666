"""Training on rows in one process: it learns, stops and goes on, and infers the same afterwards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cloud_server.checkpoints import read_tensors
from cloud_server.rows.checkpoint import CHECKPOINT
from cloud_server.rows.infer import exported, load_rows_model, measured, predictions
from cloud_server.rows.settings import RowsJob, RowsTraining
from cloud_server.rows.team import Team, shares
from cloud_server.rows.train import train_rows
from shared_models.contract.errors import BadSetting, PathMissing, RunFailed
from shared_models.logs.rows.prepare import open_or_prepare_criteo
from shared_models.logs.rows.prepared import PreparedRows
from shared_models.logs.rows.spec import RowsSpec
from tests.shared_models.logs.rows.tables import criteo_row, write_rows_table

CONFIG: dict[str, Any] = {"bottom": "13-8-4", "top": "8-1"}
TRAINING = RowsTraining(rows=32, epochs=4, learning_rate=0.05)
CPU = torch.device("cpu")


class Quiet:
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_report(self, step: int, steps: int, loss: float) -> None:
        self.losses.append(loss)


class Stops(Quiet):
    """Like a process that dies at a step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def on_report(self, step: int, steps: int, loss: float) -> None:
        if step == self.at:
            raise KeyboardInterrupt


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PreparedRows:
    """Labels that the first category and the first count decide between them."""
    monkeypatch.setenv("CONCERTO_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(1000):
        kind, count = int(rng.integers(8)), int(rng.integers(3))
        words = [f"{kind:x}", *(f"{word:x}" for word in rng.integers(0, 50, 25))]
        label = str(int(kind < 3 or (kind < 5 and count > 0)))
        lines.append(criteo_row(label, [str(count), *[""] * 12], words))
    return open_or_prepare_criteo([write_rows_table(tmp_path, lines)], RowsSpec(values=60))


def job_of(rows: PreparedRows, out: Path, **changed: Any) -> RowsJob:
    fields = {"method": "dlrm", "config": CONFIG, "rows": rows.folder, "seed": 0, "out": out}
    return RowsJob(**{**fields, "training": TRAINING, **changed})


def trained(job: RowsJob, watcher: Quiet | None = None) -> dict[str, torch.Tensor]:
    train_rows(job, Team(), CPU, watcher or Quiet())
    return read_tensors(job.out / CHECKPOINT)[0]


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "rowwise-adagrad"])
def test_it_learns_what_there_is_to_learn(
    optimizer: str, rows: PreparedRows, tmp_path: Path
) -> None:
    rate = 0.3 if optimizer == "sgd" else 0.05
    training = TRAINING.model_copy(update={"learning_rate": rate, "epochs": 12})
    config = {**CONFIG, "optimizer": optimizer}
    job = job_of(rows, tmp_path / "out", training=training, config=config)

    trained(job)

    found = measured(predictions(load_rows_model(job), rows))
    assert found["rows"] == 200
    assert found["auc"] > 0.95


def test_a_training_that_was_cut_off_ends_with_the_same_weights(
    rows: PreparedRows, tmp_path: Path
) -> None:
    often = TRAINING.model_copy(update={"save_every": 7, "report_every": 10})
    whole = trained(job_of(rows, tmp_path / "whole"))
    job = job_of(rows, tmp_path / "cut", training=often)

    with pytest.raises(KeyboardInterrupt):
        trained(job, Stops(at=40))
    step = read_tensors(job.out / CHECKPOINT)[1]["step"]
    again = trained(job)

    assert step == 35
    assert set(whole) == set(again)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_another_training_in_the_same_folder_begins_anew(
    rows: PreparedRows, tmp_path: Path
) -> None:
    first = trained(job_of(rows, tmp_path / "out"))
    other = trained(job_of(rows, tmp_path / "out", seed=1))

    assert not torch.equal(first["weights/tables.0.rows"], other["weights/tables.0.rows"])
    assert torch.equal(
        other["weights/tables.0.rows"],
        trained(job_of(rows, tmp_path / "own", seed=1))["weights/tables.0.rows"],
    )


def test_eight_bits_and_the_exported_graph_predict_about_the_same(
    rows: PreparedRows, tmp_path: Path
) -> None:
    wide = {**CONFIG, "bottom": "13-8-32"}
    job = job_of(rows, tmp_path / "out", config=wide)
    trained(job)
    eight = job.model_copy(update={"config": {**wide, "bits": 8}})

    full, small = (predictions(load_rows_model(each), rows) for each in (job, eight))
    graphs = [exported(load_rows_model(each), rows) for each in (job, eight)]

    difference = (full["probability"] - small["probability"]).abs().max()
    assert 0 < difference < 0.02
    assert len(graphs[1]) < 0.6 * len(graphs[0])


def test_a_model_refuses_what_it_was_not_made_for(rows: PreparedRows, tmp_path: Path) -> None:
    job = job_of(rows, tmp_path / "out")
    with pytest.raises(PathMissing, match="run concerto-cloud train"):
        load_rows_model(job)
    trained(job)
    table = tmp_path / "criteo.txt"
    others = open_or_prepare_criteo([table], RowsSpec(values=70))

    with pytest.raises(BadSetting, match="other settings"):
        load_rows_model(job.model_copy(update={"config": {**CONFIG, "top": "9-1"}}))
    with pytest.raises(BadSetting, match="numbered otherwise"):
        load_rows_model(job.model_copy(update={"rows": others.folder}))


def test_divergence_is_told_and_no_checkpoint_is_left(rows: PreparedRows, tmp_path: Path) -> None:
    training = TRAINING.model_copy(update={"learning_rate": 1e20, "save_every": 3})
    config = {**CONFIG, "optimizer": "sgd", "loss": "bce"}
    job = job_of(rows, tmp_path / "out", training=training, config=config)

    with pytest.raises(RunFailed, match=r"lower train.learning_rate \(now 1e\+20\)"):
        trained(job)

    assert not (job.out / CHECKPOINT).exists()


def test_shares_are_even_and_leave_nothing_over() -> None:
    assert shares(26, 4) == [7, 7, 6, 6]
    assert [list(Team(rank, 3).own(7)) for rank in range(3)] == [[0, 1, 2], [3, 4], [5, 6]]
    assert shares(1, 2) == [1, 0]
