"""Rows that no table may hold: each is told with its file, row and column, and none is skipped."""

from pathlib import Path

import pytest

from shared_models.contract.errors import BadLog, BadValue, ConcertoError, PathMissing, TooSmall
from shared_models.logs.tables.cigar import CIGAR, ITEM_FIELDS, USER_FIELDS
from shared_models.logs.tables.ecrec import ECREC
from shared_models.logs.tables.format import Format
from shared_models.logs.tables.lines import read_lines
from shared_models.logs.tables.pinrec import PINREC
from shared_models.logs.tables.read import read_tables
from tests.shared_models.logs.tables.conftest import cigar_row, ecrec_row, pinrec_row, write_table

NUMBER = "expected a whole number of at least 0"
LIST = "expected whole numbers of at least 0, separated by commas"
ECREC_FAULTS = [
    ({"user_id": ""}, rf"'1 \(user_id\)': {NUMBER}, found ''"),
    ({"user_id": "ann"}, rf"'1 \(user_id\)': {NUMBER}, found 'ann'"),
    ({"user_id": " 4"}, rf"'1 \(user_id\)': {NUMBER}, found ' 4'"),
    ({"user_id": "-4"}, rf"'1 \(user_id\)': {NUMBER}, found '-4'"),
    ({"item_id": "7.0"}, r"'2 \(item_id\)': expected .* at least 1, found '7.0'"),
    ({"item_id": "0"}, r"'2 \(item_id\)': expected .* at least 1, found '0'"),
    ({"cate_id": "x"}, rf"'3 \(cate_id\)': {NUMBER}, found 'x'"),
    ({"label": "2"}, r"'4 \(label\)': expected 0 or 1, found '2'"),
    ({"label": "1.0"}, r"'4 \(label\)': expected 0 or 1, found '1.0'"),
    ({"item_seq": "3,x,6"}, rf"'5 \(item_seq\)': {LIST}; number 2 of the list is 'x'"),
    ({"item_seq": "3,-5,6"}, rf"'5 \(item_seq\)': {LIST}; number 2 of the list is '-5'"),
    ({"item_seq": "3,5,"}, rf"'5 \(item_seq\)': {LIST}; number 3 of the list is ''"),
    ({"cate_seq": "1,,2"}, r"'6 \(cate_seq\)': .*; number 2 of the list is ''"),
    ({"cate_seq": "1,2"}, r"'6 \(cate_seq\)': expected as many ids as in item_seq, 3; found 2"),
    ({"cate_seq": ""}, r"'6 \(cate_seq\)': expected as many ids as in item_seq, 3; found 0"),
    ({"edge_item_seq": "8,nine"}, rf"'7 \(edge_item_seq\)': {LIST}; number 2 .* 'nine'"),
    ({"edge_cate_seq": "1;1"}, rf"'8 \(edge_cate_seq\)': {LIST}; number 1 .* '1;1'"),
    ({"edge_cate_seq": "1"}, r"'8 \(edge_cate_seq\)': .* edge_item_seq, 2; found 1"),
    ({"seq_len": "many"}, rf"'9 \(seq_len\)': {NUMBER}, found 'many'"),
    ({"seq_len": "2"}, r"'9 \(seq_len\)': expected the number of ids in item_seq, 3; found '2'"),
    ({"seq_len": "100"}, r"'9 \(seq_len\)': expected .* item_seq, 3; found '100'"),
    ({"item_seq": "3,10,0"}, r"'9 \(seq_len\)': expected .* item_seq, 2; found '3'"),
]
CIGAR_FAULTS = [
    ({"user_id": "-1"}, rf"'1 \(user_id\)': {NUMBER}, found '-1'"),
    *(
        ({name: "old"}, rf"'{place} \({name}\)': {NUMBER}, found 'old'")
        for place, name in enumerate(USER_FIELDS, 2)
    ),
    ({"neighbours": "5,me"}, rf"'10 \(neighbours\)': {LIST}; number 2 of the list is 'me'"),
    *(
        ({f"click_{name}": "3,5,-6"}, rf"'{place} \(click_{name}\)': {LIST}; number 3 .* '-6'")
        for place, name in enumerate(ITEM_FIELDS, 14)
    ),
    *(
        ({f"click_{name}": "3,5"}, rf"'{place} \(click_{name}\)': .* click_adgroup, 3; found 2")
        for place, name in enumerate(ITEM_FIELDS[1:], 15)
    ),
    *(
        ({f"{name}_id": ""}, rf"'{place} \({name}_id\)': {NUMBER}, found ''")
        for place, name in enumerate(ITEM_FIELDS, 21)
    ),
    ({"label": "yes"}, r"'29 \(label\)': expected 0 or 1, found 'yes'"),
    ({"label": ""}, r"'29 \(label\)': expected 0 or 1, found ''"),
]


PINREC_FAULTS = [
    ({"user_id": "ann"}, rf"'1 \(user_id\)': {NUMBER}, found 'ann'"),
    ({"target_id": "0"}, r"'2 \(target_id\)': expected .* at least 1, found '0'"),
    ({"clk_sequence": "3\t5"}, rf"'3 \(clk_sequence\)': {LIST}; number 1 of the list is"),
    ({"clk_sequence": "3,,5"}, rf"'3 \(clk_sequence\)': {LIST}; number 2 of the list is ''"),
    ({"label": "2"}, r"'4 \(label\)': expected 0 or 1, found '2'"),
    ({"group_id": ""}, rf"'5 \(group_id\)': {NUMBER}, found ''"),
    ({"group_id": "-1"}, rf"'5 \(group_id\)': {NUMBER}, found '-1'"),
]


@pytest.mark.parametrize(("cells", "says"), PINREC_FAULTS)
def test_a_bad_cell_of_pinrec_is_told_with_row_and_column(
    tmp_path: Path, cells: dict[str, str], says: str
) -> None:
    path = write_table(tmp_path, [pinrec_row(), pinrec_row(**cells), pinrec_row(label="x")])

    with pytest.raises(BadValue, match=rf"table\.txt: row 2, column {says}"):
        read_tables([path], PINREC)


@pytest.mark.parametrize(("cells", "says"), ECREC_FAULTS)
def test_a_bad_cell_of_ecrec_is_told_with_row_and_column(
    tmp_path: Path, cells: dict[str, str], says: str
) -> None:
    path = write_table(tmp_path, [ecrec_row(), ecrec_row(**cells), ecrec_row(label="x")])

    with pytest.raises(BadValue, match=rf"table\.txt: row 2, column {says}"):
        read_tables([path], ECREC)


@pytest.mark.parametrize(("cells", "says"), CIGAR_FAULTS)
def test_a_bad_cell_of_cigar_is_told_with_row_and_column(
    tmp_path: Path, cells: dict[str, str], says: str
) -> None:
    path = write_table(tmp_path, [cigar_row(), cigar_row(**cells), cigar_row(label="x")])

    with pytest.raises(BadValue, match=rf"table\.txt: row 2, column {says}"):
        read_tables([path], CIGAR)


@pytest.mark.parametrize(
    ("text", "form", "error", "says"),
    [
        ("", ECREC, TooSmall, "the file is empty"),
        (f"{ecrec_row()}\n\n", ECREC, BadLog, "row 2: expected 9 columns .* found 1"),
        (f"{ecrec_row()}\t\n", ECREC, BadLog, "row 1: expected 9 columns .* found 10"),
        (f"{ecrec_row()}\n{cigar_row()}\n", ECREC, BadLog, "row 2: .* 9 columns .* found 29"),
        (f"{ecrec_row()}\n", CIGAR, BadLog, "row 1: .* 29 columns .* found 9"),
        (f"{pinrec_row()};\n", PINREC, BadLog, "row 1: expected 5 columns .* semicolons, found 6"),
        (f"{ecrec_row()}\n", PINREC, BadLog, "row 1: expected 5 columns .* semicolons, found 1"),
        (f"{pinrec_row()}\n", ECREC, BadLog, "row 1: expected 9 columns .* tabs, found 1"),
        (f"{ecrec_row()} \n", ECREC, BadValue, r"row 1, column '9 \(seq_len\)'.* found '3 '"),
        (f"\t{ecrec_row()[2:]}\n", ECREC, BadValue, r"row 1, column '1 \(user_id\)'.* found ''"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(
    tmp_path: Path, text: str, form: Format, error: type[ConcertoError], says: str
) -> None:
    path = tmp_path / "table.txt"
    path.write_text(text)

    with pytest.raises(error, match=rf"table\.txt: {says}"):
        read_tables([path], form)


def test_bytes_that_are_no_text_are_told_with_their_row(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_bytes(f"{ecrec_row()}\n".encode() + b"4\t\xff\n")

    with pytest.raises(BadLog, match="row 2: not UTF-8"):
        read_tables([path], ECREC)


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PathMissing):
        read_tables([tmp_path / "no.txt"], ECREC)


def test_rows_are_numbered_through_all_blocks(tmp_path: Path) -> None:
    rows = [ecrec_row(user_id=str(user)) for user in range(50)]
    good = write_table(tmp_path, rows)
    bad = write_table(tmp_path, [*rows[:41], ecrec_row(label="x"), *rows[41:]], "bad.txt")

    blocks = list(read_lines(good, ECREC.layout, block=100))

    assert len(blocks) > 10
    assert [int(user) for block in blocks for user in block["user_id"]] == list(range(50))
    with pytest.raises(BadValue, match="row 42"):
        list(read_lines(bad, ECREC.layout, block=100))


def test_lines_may_end_as_windows_ends_them_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_bytes(f"{ecrec_row()}\r\n{ecrec_row(user_id='5')}".encode())

    (block,) = read_lines(path, ECREC.layout)

    assert block["seq_len"].to_list() == ["3", "3"]
    assert block["user_id"].to_list() == ["4", "5"]


def test_columns_that_nobody_reads_may_hold_anything(tmp_path: Path) -> None:
    path = write_table(tmp_path, [cigar_row(empty_11="-", empty_19="x,y", empty_28="\\N")])

    assert len(read_tables([path], CIGAR).events) == 4
