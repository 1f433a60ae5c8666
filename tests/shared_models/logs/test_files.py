"""A user's own files, good and bad."""

import os
from pathlib import Path

import polars as pl
import pytest

from shared_models.contract.errors import (
    BadLog,
    BadValue,
    ColumnMissing,
    ConcertoError,
    PathMissing,
    TooSmall,
    UnknownName,
)
from shared_models.logs import files
from shared_models.logs.files import Columns, read_file
from shared_models.logs.prepare import open_or_prepare

OWN = Columns("who", "what", "when")


def write(folder: Path, text: str) -> Path:
    path = folder / "own.csv"
    path.write_text(text)
    return path


def test_a_csv_with_own_column_names_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "when,who,what\n3,ann,7\n4,bob,8\n")

    source = read_file(path, OWN)

    assert source.task == "next-item"
    assert source.events.rows() == [("ann", "7", 3.0), ("bob", "8", 4.0)]


def test_a_parquet_file_is_read_as_a_csv_is(tmp_path: Path) -> None:
    frame = pl.DataFrame({"who": [1], "what": ["a"], "when": [2]})
    frame.write_parquet(tmp_path / "own.parquet")

    assert read_file(tmp_path / "own.parquet", OWN).events.rows() == [(1, "a", 2.0)]


def test_dates_are_read_as_seconds(tmp_path: Path) -> None:
    path = write(tmp_path, "who,what,when\n1,2,1970-01-01 00:01:00\n1,3,1970-01-02 00:00:00\n")

    assert read_file(path, OWN).events["at"].to_list() == [60.0, 86400.0]


def test_labels_and_requests_make_labelled_exposures(tmp_path: Path) -> None:
    path = write(tmp_path, "who,what,when,hit\n1,2,0,1\n1,3,0,0\n1,2,9,0\n")

    source = read_file(path, Columns("who", "what", "when", label="hit"))

    assert source.task == "labelled-exposures"
    request = source.events["request"].to_list()
    assert request[0] == request[1] != request[2]


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("", TooSmall, "empty"),
        ("who,what,when\n", TooSmall, "empty"),
        ("who,what\n1,2\n", ColumnMissing, "no column 'when'.*--time-col"),
        ("who,what,when\n1,2,3\n1,2,nan\n", BadValue, "row 3.*'when'"),
        ("who,what,when\n1,2,3\n1,2,-1\n", BadValue, "row 3.*before 0"),
        ("who,what,when\n1,2,soon\n", BadValue, "row 2"),
        ("who,what,when\n1,2,\n", BadValue, "row 2"),
        ("who,what,when\n1,,3\n", BadValue, "row 2.*'what'.*no value"),
        ("who,what,when\n1,2,inf\n", BadValue, "row 2"),
        ("who,what,when\n1,2,1970-01-02 00:00:00\n1,2,soon\n", BadValue, "row 3"),
        ("who,what,when\n" + "1,2,3\n" * 12_000 + "1,2,soon\n", BadValue, "row 12002"),
        ('who,what,when\n1,2,3\n"",2,3\n', BadValue, "row 3.*'who'.*no value"),
    ],
)
def test_a_bad_file_is_refused_with_its_row(
    tmp_path: Path, text: str, error: type[ConcertoError], says: str
) -> None:
    with pytest.raises(error, match=says):
        read_file(write(tmp_path, text), OWN)


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("1.0", "0.0"), ("true", "false")])
def test_labels_are_read_in_the_ways_that_people_write_them(
    tmp_path: Path, yes: str, no: str
) -> None:
    path = write(tmp_path, f"who,what,when,hit\n1,2,0,{yes}\n1,3,0,{no}\n")

    events = read_file(path, Columns("who", "what", "when", label="hit")).events

    assert events["label"].to_list() == [1.0, 0.0]


def test_a_label_other_than_0_or_1_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "who,what,when,hit\n1,2,0,2\n")

    with pytest.raises(BadValue, match="expected 0 or 1"):
        read_file(path, Columns("who", "what", "when", label="hit"))


@pytest.mark.parametrize("name", ["junk.csv", "junk.parquet"])
def test_binary_junk_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x00\xff\xfe\x80" + os.urandom(4000))

    with pytest.raises(BadLog):
        read_file(path, OWN)


def test_a_parquet_file_that_ends_the_process_that_reads_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deadly.parquet"
    path.touch()
    monkeypatch.setattr(files, "_READS", "import os; os.abort()")

    with pytest.raises(BadLog, match="damaged"):
        read_file(path, OWN)


def test_a_missing_file_and_an_unknown_name_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(PathMissing):
        open_or_prepare(str(tmp_path / "no.csv"), OWN, "user-tail")
    with pytest.raises(UnknownName, match="movielens-100k"):
        open_or_prepare("movielens-100", OWN, "user-tail")


def test_a_file_is_prepared_once_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCERTO_CACHE", str(tmp_path / "cache"))
    rows = "".join(f"{user},{step % 5},{step}\n" for step in range(20) for user in range(3))
    path = write(tmp_path, "who,what,when\n" + rows)

    first, second = (open_or_prepare(str(path), OWN, "user-tail") for _ in range(2))

    assert first.folder == second.folder
    assert [entry.name for entry in (tmp_path / "cache" / "logs").iterdir() if entry.is_dir()] == [
        first.folder.name
    ]


def test_ids_are_text_however_numeric_the_first_rows_look(tmp_path: Path) -> None:
    path = write(tmp_path, "who,what,when\n" + "1,7,3\n" * 12_000 + "ann,007,3.5\n")

    events = read_file(path, OWN).events

    assert events.row(-1) == ("ann", "007", 3.5)
    assert events["item"].n_unique() == 2
