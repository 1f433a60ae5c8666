"""A run's folder as frames: complete ones, partial ones, old ones, and folders that are none."""

import json
from pathlib import Path

import polars as pl
import pytest

from shared_models.contract.errors import BadLog, PathMissing
from simulator.report import load_run
from simulator.results import rankings_name
from tests.simulator.report.conftest import ENTRIES, SOME, make_run

COUNT = 300


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", ENTRIES[:2], count=COUNT, seeds=(0,))


def test_every_ranking_says_whose_it_is_whatever_the_label(compared: Path) -> None:
    run = load_run(compared)

    assert run.entries == tuple(made.label for made in SOME)
    assert run.rankings.n_unique(["entry", "seed"]) == 2 * len(SOME)
    odd = run.rankings.filter(entry="duet[codec=latent-i8] <b>&amp;")
    assert odd["method"].unique().to_list() == ["duet"]
    assert odd["scores"].list.len().unique().to_list() == [20]


def test_a_run_is_its_documents_and_its_tables(folder: Path) -> None:
    run = load_run(str(folder))

    assert run.ledger["purpose"].unique().sort().to_list() == ["bundle", "refresh"]
    assert set(run.tables) == {"observed"}
    assert run.metrics == json.loads((folder / "metrics.json").read_text())
    assert run.scenario["methods"] == ["base: duet", "duet: duet"]
    assert run.environment["cpus"] > 0


def test_scores_stay_on_disk_where_they_are_not_wanted(folder: Path) -> None:
    run = load_run(folder, scores=False)

    assert run.rankings.height == 2 * COUNT
    assert not {"scores", "taken"} & set(run.rankings.columns)


def test_a_partial_run_loads(tmp_path: Path) -> None:
    folder = make_run(tmp_path, ENTRIES[:1], count=COUNT, seeds=(0,), complete=False)

    run = load_run(folder)

    assert not run.metrics["methods"]["base"]["complete"]
    assert run.rankings.height == COUNT
    assert run.ledger.is_empty()


def test_files_of_older_runs_say_whose_they_are_in_their_name(folder: Path) -> None:
    for file in folder.glob("rankings-*.parquet"):
        pl.read_parquet(file).write_parquet(file)  # without the footer

    run = load_run(folder)

    assert run.rankings["entry"].unique().sort().to_list() == ["base", "duet"]
    assert run.rankings["seed"].unique().to_list() == [0]


def test_a_label_that_no_file_can_have_gets_a_name_of_its_own() -> None:
    names = {rankings_name(label, 0) for label in ("a/b", "a:b", "a b", "a-b", "x" * 300)}

    assert len(names) == 5
    assert "rankings-a-b-0.parquet" in names
    assert all(len(name) < 150 and "/" not in name for name in names)


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_a_folder_that_is_no_run_is_said_to_be_none(tmp_path: Path, path: str) -> None:
    with pytest.raises(PathMissing):
        load_run(tmp_path / path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", "{"),
        ("metrics.json", "[]"),
        ("metrics.json", '{"protocol": ""}'),
        ("scenario.yaml", "a: [b"),
        ("ledger.parquet", "PAR1"),
        ("rankings-base-0.parquet", "no"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)

    with pytest.raises(BadLog, match=name):
        load_run(folder)


def test_a_file_on_which_polars_panics_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panic(*_: object) -> None:
        raise pl.exceptions.PanicException("assertion failed")

    monkeypatch.setattr(pl.LazyFrame, "collect", panic)

    with pytest.raises(BadLog, match="not a readable Parquet file"):
        load_run(folder)


def test_rankings_of_nobody_are_named(folder: Path) -> None:
    pl.DataFrame({"user": [0]}).write_parquet(folder / "rankings-x.parquet")

    with pytest.raises(BadLog, match="rankings-x"):
        load_run(folder)
