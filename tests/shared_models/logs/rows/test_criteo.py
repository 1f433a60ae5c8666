"""Criteo's format: what a row says, what is missing, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from shared_models.contract.errors import BadLog, BadValue, PathMissing, TooSmall
from shared_models.logs.rows.prepare import open_or_prepare_criteo
from shared_models.logs.rows.prepared import PreparedRows
from shared_models.logs.rows.spec import RowsSpec
from tests.shared_models.logs.rows.tables import criteo_row, write_rows_table

HASH = RowsSpec(values=1000)
WORDS = RowsSpec(categories="vocabulary")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCERTO_CACHE", str(tmp_path / "cache"))


def prepared(tmp_path: Path, lines: list[str], spec: RowsSpec, name: str = "t.txt") -> PreparedRows:
    """All but the last line train."""
    train = write_rows_table(tmp_path, lines[:-1], f"train-{name}")
    return open_or_prepare_criteo([train, write_rows_table(tmp_path, lines[-1:], name)], spec)


def test_counts_are_logarithms_and_what_is_missing_or_below_0_is_0(tmp_path: Path) -> None:
    cells = ["0", "1", "", "-3", *["7"] * 9]

    rows = prepared(tmp_path, [criteo_row(counts=cells)] * 2, HASH).read("test", 0)

    np.testing.assert_allclose(rows.dense_RN[0], [0, np.log(2), 0, 0, *[np.log(8)] * 9], rtol=1e-6)
    assert rows.label_R.tolist() == [0]


def test_hashed_categories_are_remainders_and_0_is_what_is_missing(tmp_path: Path) -> None:
    cells = ["68fd1e64", "", "0", *["ffffffff"] * 23]

    found = prepared(tmp_path, [criteo_row(categories=cells)] * 2, HASH)

    ids = [int(bag.ids[0]) for bag in found.read("test", 0).bags]
    assert ids == [1 + 0x68FD1E64 % 999, 0, 1, *[1 + 0xFFFFFFFF % 999] * 23]
    assert found.values == [1000] * 26


def test_a_vocabulary_is_of_the_training_part_and_the_frequent_come_first(tmp_path: Path) -> None:
    first = ["b", "a", "b", "c", "c", "b", "", "e"]
    lines = [criteo_row(categories=[cell, *["1"] * 25]) for cell in first]

    every = prepared(tmp_path, lines, WORDS)
    some = prepared(tmp_path, lines, WORDS.model_copy(update={"at_least": 2}))

    assert every.read("train", 0).bags[0].ids.tolist() == [1, 3, 1, 2, 2, 1, 0]
    assert every.read("test", 0).bags[0].ids.tolist() == [0]
    assert every.values == [4, *[2] * 25]
    assert some.read("train", 0).bags[0].ids.tolist() == [1, 0, 1, 2, 2, 1, 0]
    assert every.manifest.encoding != some.manifest.encoding


def test_one_table_tests_on_its_last_fifth(tmp_path: Path) -> None:
    lines = [criteo_row(label=str(n % 2), counts=[str(n), *[""] * 12]) for n in range(10)]

    found = open_or_prepare_criteo([write_rows_table(tmp_path, lines)], HASH)

    counts = [np.rint(np.expm1(found.read(p, 0).dense_RN[:, 0])) for p in ("train", "test")]
    assert [part.tolist() for part in counts] == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (criteo_row(label="2"), "row 2, column '1 (label)': expected 0 or 1, found '2'"),
        (
            criteo_row(counts=["1", "x", *[""] * 11]),
            "row 2, column '3 (integer 2)': expected a whole number or nothing, found 'x'",
        ),
        (
            criteo_row(categories=[*["0"] * 25, "68fd1e64z"]),
            "row 2, column '40 (category 26)': expected at most 8 hexadecimal digits or nothing",
        ),
    ],
)
def test_a_bad_cell_is_told_with_its_row_and_column_and_nothing_is_kept(
    line: str, says: str, tmp_path: Path
) -> None:
    table = write_rows_table(tmp_path, [criteo_row(), line, criteo_row()])

    with pytest.raises(BadValue, match=says.replace("(", r"\(").replace(")", r"\)")):
        open_or_prepare_criteo([table], HASH)

    assert not list((tmp_path / "cache" / "rows").glob("criteo*"))


def test_a_row_of_another_width_is_refused(tmp_path: Path) -> None:
    table = write_rows_table(tmp_path, [criteo_row(), criteo_row() + "\t"])

    with pytest.raises(BadLog, match="row 2: expected 40 columns separated by tabs, found 41"):
        open_or_prepare_criteo([table], HASH)


def test_a_table_must_be_there_and_have_rows_for_both_parts(tmp_path: Path) -> None:
    with pytest.raises(PathMissing):
        open_or_prepare_criteo([tmp_path / "none.txt"], HASH)
    with pytest.raises(TooSmall):
        open_or_prepare_criteo([write_rows_table(tmp_path, [criteo_row()])], HASH)


def test_the_same_content_is_prepared_once(tmp_path: Path) -> None:
    lines = [criteo_row()] * 5
    first = open_or_prepare_criteo([write_rows_table(tmp_path, lines, "a.txt")], HASH)
    written = (first.folder / "train-00000.parquet").stat().st_mtime_ns

    again = open_or_prepare_criteo([tmp_path / "a.txt"], HASH)
    other = open_or_prepare_criteo([tmp_path / "a.txt"], RowsSpec(values=2000))

    assert again.folder == first.folder != other.folder
    assert (again.folder / "train-00000.parquet").stat().st_mtime_ns == written
