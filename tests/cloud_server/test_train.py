"""Training: exact resume, early stopping in time, and rows that leak nothing."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cloud_server.behaviour import Behaviour
from cloud_server.checkpoints import load_checkpoint, read_tensors, write_tensors
from cloud_server.dataset import Dataset, Negatives
from cloud_server.recipe import TrainSettings
from cloud_server.standing import Epoch, Progress
from cloud_server.train import PROGRESS, train
from shared_models.catalog import load_method, resolve
from shared_models.contract.errors import BadLog, PathMissing, RunFailed
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog, targets
from shared_models.logs.source import Source
from shared_models.logs.worlds.groups import World, read_synthetic
from shared_models.method import Batch, Method, Stage
from tests.shared_models.logs.conftest import make_shown_source

SETTINGS = TrainSettings(epochs=3, rows=64)
GATE = [1, 2, 3]
"""Epochs of the stage that comes after the joint one."""
SECOND = [1, 2]
"""Epochs of the stage in which the trunk moves slowly."""


def dataset(log: PreparedLog, history: int) -> Dataset:
    config = resolve("base", log.items, "sasrec", {"base": {"window": history}})
    return Dataset(log, config, torch.device("cpu"))


class Silent:
    """Watches, and kills the training where a test says so."""

    def __init__(self, killed_after: int | None = None) -> None:
        self.epochs: list[Epoch] = []
        self._killed_after = killed_after

    def on_step(self, stage: str, epoch: int, step: int, steps: int) -> None:
        if self._killed_after is not None and len(self.epochs) == self._killed_after and step == 3:
            raise KeyboardInterrupt

    def on_epoch(self, stage: str, record: Epoch) -> None:
        self.epochs.append(record)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    world = World(users=30, events=30, genres=3, cell=8)
    return prepare(read_synthetic(world), "user-tail", tmp_path_factory.mktemp("log") / "log")


def duet(log: PreparedLog) -> Method:
    method = load_method("duet", resolve("duet", log.items, "sasrec", {}))
    assert isinstance(method, Method)
    return method


def softmax(log: PreparedLog) -> Method:
    settings = {"base": {"objective": "softmax"}}
    method = load_method("base", resolve("base", log.items, "gru4rec", settings))
    assert isinstance(method, Method)
    return method


def pinrec(log: PreparedLog) -> Method:
    settings = {"pinrec": {"groups": 2, "second_epochs": len(SECOND)}}
    method = load_method("pinrec", resolve("pinrec", log.items, "pool", settings))
    assert isinstance(method, Method)
    return method


@pytest.mark.parametrize(
    ("method", "killed_after", "rest"),
    [(duet, 1, [2, 3, *GATE]), (softmax, 1, [2, 3]), (pinrec, SETTINGS.epochs + 1, SECOND[1:])],
)
def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    log: PreparedLog,
    tmp_path: Path,
    method: Callable[[PreparedLog], Method],
    killed_after: int,
    rest: list[int],
) -> None:
    settings = SETTINGS.model_copy(update={"rows": 16})
    whole = train(method(log), log, settings, 0, tmp_path / "whole", Silent())
    with pytest.raises(KeyboardInterrupt):
        train(method(log), log, settings, 0, tmp_path / "killed", Silent(killed_after))
    again = Silent()

    resumed = train(method(log), log, settings, 0, tmp_path / "killed", again)

    assert [epoch.number for epoch in again.epochs] == rest
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_training_with_other_settings_does_not_resume(log: PreparedLog, tmp_path: Path) -> None:
    train(duet(log), log, SETTINGS, 0, tmp_path, Silent())
    watcher = Silent()

    train(duet(log), log, SETTINGS.model_copy(update={"rows": 32}), 0, tmp_path, watcher)

    assert [epoch.number for epoch in watcher.epochs] == [1, 2, 3, *GATE]


def test_a_trained_model_is_the_best_epoch_and_reads_back(log: PreparedLog, tmp_path: Path) -> None:
    trained = train(duet(log), log, SETTINGS, 0, tmp_path, Silent())

    again = load_checkpoint(tmp_path)

    assert again.method.config == trained.method.config
    assert again.log_hash == log.hash
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, trained.model.state_dict()[name])


def unused(*_: object) -> Tensor:
    raise AssertionError


def test_training_stops_when_validation_gets_no_better() -> None:
    def after(*aucs: float) -> Progress:
        return Progress(epochs=tuple(Epoch(n, 0.0, a) for n, a in enumerate(aucs, start=1)))

    settings = TrainSettings(epochs=9, patience=2)

    def is_over(progress: Progress, most: int | None = None) -> bool:
        stage = Stage("stage", nn.Module.parameters, unused, unused, epochs=most)
        return progress.is_over(stage, settings)

    assert not is_over(after())
    assert not is_over(after(0.5, 0.6, 0.55))
    assert is_over(after(0.5, 0.6, 0.55, 0.6))
    assert is_over(after(*np.linspace(0.5, 0.9, 9)))
    assert is_over(after(0.5, 0.6, 0.7), most=3)
    assert not is_over(after(0.5, 0.6), most=3)
    assert after(0.5, 0.6, 0.6).best == Epoch(2, 0.0, 0.6)


def test_a_diverging_training_says_what_to_change(log: PreparedLog, tmp_path: Path) -> None:
    wild = SETTINGS.model_copy(update={"learning_rate": 1e30})

    with pytest.raises(RunFailed, match=r"train\.learning_rate"):
        train(duet(log), log, wild, 0, tmp_path, Silent())


def test_a_history_holds_what_came_before_and_nothing_else() -> None:
    events = pl.DataFrame(
        {"user": [0, 0, 0, 1, 1], "item": [5, 6, 7, 8, 9], "seq": [0, 1, 2, 0, 1]}
    ).with_columns(at=pl.col("seq").cast(pl.Float64))

    histories = Behaviour.of(events, 2).histories(np.array([0, 0, 1, 1]), np.array([0, 2, 0, 1]), 3)

    assert histories.tolist() == [[0, 0, 0], [0, 5, 6], [0, 0, 0], [0, 0, 8]]


def test_only_what_was_taken_before_a_request_is_history() -> None:
    events = pl.DataFrame(
        {
            "user": [0] * 6,
            "item": [1, 2, 3, 4, 5, 6],
            "seq": list(range(6)),
            "label": [0.0, 1, 1, 0, 1, 0],
            "request": [0, 0, 0, 1, 1, 2],
        }
    ).with_columns(at=pl.col("seq").cast(pl.Float64))

    histories = Behaviour.of(events, 1).histories(np.zeros(6, int), np.arange(6), 4)

    assert histories.tolist() == [[0, 0, 0, 0]] * 3 + [[0, 0, 2, 3]] * 2 + [[0, 2, 3, 5]]


def test_training_negatives_avoid_the_training_part_only() -> None:
    train_part = pl.DataFrame({"user": [0, 0, 1], "item": [1, 2, 3]})

    drawn = Negatives(train_part, 5).draw(np.zeros(4000, int), 2, np.random.default_rng(0))

    assert set(drawn.ravel().tolist()) == {3, 4, 5}


def test_an_epoch_sees_every_training_event_with_a_history_once(log: PreparedLog) -> None:
    data = dataset(log, 10)

    targets = torch.cat(
        [batch.candidates_BC[:, 0] for batch in data.epoch(np.random.default_rng(0), 50, 4)]
    )

    expected = log.train.filter(pl.col("seq") > 0)["item"].sort().to_list()
    assert sorted(targets.tolist()) == expected


RUNS = st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 4))


@given(RUNS, st.integers(0, 99))
def test_every_item_but_a_users_first_follows_what_came_before_it_once(
    lives: tuple[list[int], int], seed: int
) -> None:
    counts, length = lives
    users = [(user, seq) for user, count in enumerate(counts) for seq in range(count)]
    events = pl.DataFrame(
        {"user": [u for u, _ in users], "item": list(range(1, len(users) + 1))},
        schema={"user": pl.Int32, "item": pl.Int32},
    ).with_columns(at=pl.lit(0.0))

    runs = Behaviour.of(events, len(counts)).runs(length, np.random.default_rng(seed))

    assert runs.shape[1] == length + 1
    followed = [(a, b) for run in runs.tolist() for a, b in pairwise(run) if a]
    numbers = dict(zip(users, range(1, len(users) + 1), strict=True))
    assert followed == [(numbers[u, s - 1], numbers[u, s]) for u, s in users if s]
    assert all((np.diff(run > 0) >= 0).all() for run in runs)


def test_sequences_hold_the_training_part_cut_anew_each_epoch(log: PreparedLog) -> None:
    data, rng = dataset(log, 5), np.random.default_rng(0)

    first, second = (data.sequences(rng, 7) for _ in range(2))

    def items(epoch: list[Batch]) -> list[int]:
        return sorted(i for b in epoch for run in b.history_BH.tolist() for i in run[1:] if i)

    assert [len(batch.history_BH) for batch in first[:-1]] == [7] * (len(first) - 1)
    assert {batch.history_BH.shape[1] for batch in first} == {6}
    assert not torch.equal(first[0].history_BH, second[0].history_BH)
    assert set(items(first)) <= set(log.train["item"])
    targets = sum((batch.history_BH[:, 1:] * batch.history_BH[:, :-1] > 0).sum() for batch in first)
    assert targets == len(log.train) - log.users


def test_validation_rows_are_the_same_each_time(log: PreparedLog) -> None:
    data = dataset(log, 10)

    first, second = ([b.candidates_BC for b in data.validation(20, 5)] for _ in range(2))

    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_labelled_exposures_train_on_what_was_shown(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shown = pl.DataFrame(
        {
            "user": np.repeat(np.arange(10), 60),
            "item": rng.integers(0, 30, 600),
            "at": np.tile(np.repeat(np.arange(20.0), 3), 10),
            "label": np.tile([1.0, 0.0, 0.0], 200),
            "request": np.repeat(np.arange(200), 3),
        }
    )
    labelled = prepare(Source("shown", shown), "user-tail", tmp_path / "log")
    watcher = Silent()

    train(duet(labelled), labelled, SETTINGS, 0, tmp_path / "out", watcher)

    assert all(0 <= epoch.validation_auc <= 1 for epoch in watcher.epochs)
    batch = next(iter(dataset(labelled, 5).epoch(rng, 8, 4)))
    assert batch.candidates_BC.shape == (8, 1)


def test_mere_behaviour_is_history_and_never_a_row(tmp_path: Path) -> None:
    log = prepare(make_shown_source(), "user-tail", tmp_path / "log")
    data, rng = dataset(log, 3), np.random.default_rng(0)

    rows = [*data.epoch(rng, 8, 4), *data.validation(1000, 4)]

    clicked = log.item_table.filter(pl.col("raw").cast(int) < 100)["item"]
    asked = torch.cat([batch.candidates_BC.ravel() for batch in rows])
    assert not set(asked.tolist()) & set(clicked)
    assert len(asked) == len(targets(log.train)) + len(targets(log.validation))
    assert data.steps(8) == -(-len(targets(log.train)) // 8)
    newest = torch.cat([batch.history_BH[:, -2:] for batch in rows])
    assert set(newest.ravel().tolist()) <= set(clicked)
    assert set(newest.ravel().tolist()) >= set(clicked[:8])


def test_a_checkpoint_is_whole_or_absent_and_junk_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)}, {"seed": 3})
    tensors, about = read_tensors(tmp_path / "x.safetensors")
    assert about == {"seed": 3}
    assert torch.equal(tensors["a"], torch.ones(2))

    (tmp_path / "x.safetensors").write_bytes(b"junk" * 100)
    with pytest.raises(BadLog):
        read_tensors(tmp_path / "x.safetensors")
    with pytest.raises(PathMissing):
        load_checkpoint(tmp_path / "nowhere")


def test_progress_on_disk_is_never_half_written(log: PreparedLog, tmp_path: Path) -> None:
    train(duet(log), log, SETTINGS, 0, tmp_path, Silent())

    assert (tmp_path / PROGRESS).is_file()
    assert list(tmp_path.glob("*.draft")) == []
