"""Continual training: what was uploaded moves the released model, and nothing else does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from cloud_server import cli
from cloud_server.bundles import models_folder
from cloud_server.checkpoints import Trained, load_checkpoint
from cloud_server.events import EventJournal
from cloud_server.jobs import release
from cloud_server.recipe import TrainSettings
from cloud_server.retrain import Retraining, run_retrain, uploaded
from cloud_server.train import train
from shared_models.catalog import load_method, resolve
from shared_models.contract.bundle import BundleStore
from shared_models.contract.errors import BadSetting, UnknownName
from shared_models.contract.events import Event, EventBatch
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog
from shared_models.logs.worlds.groups import World, read_synthetic
from shared_models.method import Method
from tests.cloud_server.test_train import Silent

SHORT = TrainSettings(epochs=1, rows=64)
OWN = {"base": {}, "ecrec": {"long": 8, "max_lag": 4}, "popularity": {}}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    world = World(users=30, events=30, genres=3, cell=8)
    return prepare(read_synthetic(world), "user-tail", tmp_path_factory.mktemp("log") / "log")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[EventJournal]:
    opened = EventJournal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


def first_release(name: str, log: PreparedLog, folder: Path, *, uploads: bool = True) -> Trained:
    config = resolve(name, log.items, "pool", {name: {**OWN[name], "uploads": uploads}})
    method = load_method(name, config)
    assert isinstance(method, Method)
    trained = train(method, log, SHORT, 0, folder / "first", Silent())
    release(trained, log, folder / "bundles")
    return trained


def job(
    log: PreparedLog, folder: Path, method: str = "base", training: TrainSettings = SHORT
) -> Retraining:
    places = folder / "bundles", folder / "journal.sqlite"
    return Retraining(method, *places, log, training, folder / "again")


def released(folder: Path, method: str = "base") -> Trained:
    bundles = folder / "bundles"
    return load_checkpoint(models_folder(bundles, BundleStore(bundles).released()[method]))


def tell(journal: EventJournal, log: PreparedLog, first: int = 0) -> pl.DataFrame:
    """Upload every user's test part, numbered from ``first`` on; gives what was told."""
    events = log.test.sort("user", "seq")
    for (user,), own in events.group_by("user", maintain_order=True):
        batch = tuple(Event(item, at) for item, at in own.select("item", "at").rows())
        assert journal.append([(int(str(user)), EventBatch(first, batch))]) == [first + len(own)]
    return events.select("user", "item", "at")


def test_the_next_release_is_trained_on_what_was_uploaded(
    log: PreparedLog, journal: EventJournal, tmp_path: Path
) -> None:
    first = first_release("base", log, tmp_path)
    tell(journal, log)

    run_retrain(job(log, tmp_path))

    second = released(tmp_path)
    assert second.log_hash != first.log_hash
    moved = [
        not torch.equal(value, second.model.state_dict()[name])
        for name, value in first.model.state_dict().items()
    ]
    assert any(moved)


def test_what_does_not_validate_better_leaves_the_weights_as_they_were(
    log: PreparedLog, journal: EventJournal, tmp_path: Path
) -> None:
    first = first_release("base", log, tmp_path)
    tell(journal, log)

    # Steps too small to change any order, and not too small to be seen in a weight of zero.
    tiny = TrainSettings(epochs=1, rows=64, learning_rate=1e-12)
    run_retrain(job(log, tmp_path, training=tiny))

    second = released(tmp_path)
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])


def test_the_same_uploads_give_the_same_release(
    log: PreparedLog, journal: EventJournal, tmp_path: Path
) -> None:
    found = set()
    tell(journal, log)
    for folder in (tmp_path / "one", tmp_path / "other"):
        first_release("base", log, folder)
        run_retrain(replace(job(log, folder), journal=tmp_path / "journal.sqlite"))
        found.add(BundleStore(folder / "bundles").released()["base"])

    assert len(found) == 1


def test_what_a_journal_was_seeded_with_is_no_news(
    log: PreparedLog, journal: EventJournal, tmp_path: Path
) -> None:
    earlier = first_release("ecrec", log, tmp_path)
    history = pl.concat([log.train, log.validation]).sort("user", "seq")
    journal.seed(history.select("user", "seq", "item", "at"))
    (known,) = history.group_by("user").len()["len"].unique()
    told = tell(journal, log, first=known)

    found = uploaded(tmp_path / "journal.sqlite", earlier, log)

    assert found.rows() == told.rows()


def test_what_is_counted_is_counted_anew(
    log: PreparedLog, journal: EventJournal, tmp_path: Path
) -> None:
    first_release("popularity", log, tmp_path)
    tell(journal, log)

    run_retrain(job(log, tmp_path, "popularity"))

    # The part that validates is not counted; it has moved on.
    seen = log.events.sort("user", "seq")
    kept = len(log.validation) // log.users
    seen = seen.group_by("user").agg(pl.col("item").head(pl.len() - kept)).explode("item")
    counts = torch.bincount(torch.tensor(seen["item"].to_list()), minlength=log.items + 1)
    shares = counts / counts.sum() * log.items
    torch.testing.assert_close(released(tmp_path, "popularity").model.popularity, shares)


def test_devices_that_upload_nothing_are_refused(
    log: PreparedLog, journal: EventJournal, tmp_path: Path
) -> None:
    first_release("base", log, tmp_path, uploads=False)

    with pytest.raises(BadSetting, match=r"base\.uploads.*set it to true"):
        run_retrain(job(log, tmp_path))


def test_a_method_without_a_release_is_refused(
    log: PreparedLog, journal: EventJournal, tmp_path: Path
) -> None:
    first_release("base", log, tmp_path)

    with pytest.raises(UnknownName, match="ecrec"):
        run_retrain(job(log, tmp_path, "ecrec"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "base.window=3"], "was decided when the method was first trained"),
        ([], "journal of uploads"),
    ],
)
def test_the_command_tells_what_is_wrong(
    log: PreparedLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    places = ["--bundles", str(tmp_path), "--log", str(log.folder), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(
        "sys.argv", ["concerto-cloud", "retrain", "--method", "base", *places, *options]
    )

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 2
    assert words in capsys.readouterr().err
