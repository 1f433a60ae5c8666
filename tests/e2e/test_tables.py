"""Who brings the tables of an original gets predictions for their rows, and a bundle."""

from pathlib import Path

import polars as pl
import pytest

from shared_models.contract.bundle import BundleStore
from tests.cloud_server.test_tables import Row, cigar, ecrec, pinrec, write
from tests.e2e.conftest import command
from tests.shared_models.logs.tables.conftest import ecrec_row, write_table

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SHORT = ("--set", "train.epochs=1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "row"), [("ecrec", ecrec), ("cigar", cigar), ("pinrec", pinrec)]
)
def test_tables_are_trained_on_scored_and_exported(
    method: str, row: Row, cache: Path, tmp_path: Path
) -> None:
    train, test, _ = write(tmp_path, row)
    tables = ("--table", str(train), "--table", str(test))
    options = ("--method", method, *tables, *SHORT, "--out", str(tmp_path / "model"))
    bundles = tmp_path / "bundles"

    for verb, more in (("train", ()), ("infer", ()), ("export", ("--bundles", str(bundles)))):
        done = command("cloud_server.cli", verb, *options, *more, cache=cache)
        assert done.returncode == 0, done.stderr

    frame = pl.read_parquet(tmp_path / "model" / "predictions.parquet")
    assert frame["row"].to_list() == list(range(1, 31))
    assert frame["score"].is_finite().all()
    assert method in BundleStore(bundles).released()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--method", "ecrec"), "row 2, column '4 (label)': expected 0 or 1, found '7'"),
        (("--method", "cigar"), "row 1: expected 29 columns separated by tabs, found 9"),
        (("--method", "pinrec"), "row 1: expected 5 columns separated by semicolons, found 1"),
        (("--method", "duet"), "duet has no such format: give --log"),
        (("--method", "ecrec", "--log", "synthetic"), "no --log, --split or --*-col"),
        (("--method", "ecrec", "--split", "global-time"), "no --log, --split or --*-col"),
        (("--method", "ecrec", "--shifted-sequences"), "same ids in targets and sequences"),
    ],
)
def test_what_cannot_be_read_is_told_and_nothing_is_written(
    options: tuple[str, ...], says: str, cache: Path, tmp_path: Path
) -> None:
    table = write_table(tmp_path, [ecrec_row(), ecrec_row(label="7")])
    out = ("--table", str(table), "--out", str(tmp_path / "out"))

    done = command("cloud_server.cli", "train", *options, *out, cache=cache)

    assert done.returncode == 2, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
