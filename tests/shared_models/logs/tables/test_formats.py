"""What becomes of the columns: histories, padding, truncation, features and parts."""

from pathlib import Path

import polars as pl
import pytest

from shared_models.config import UserGroups
from shared_models.contract.errors import TooSmall, UnknownName
from shared_models.logs.activity import grouped
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PARTS, targets
from shared_models.logs.source import Source, numbered
from shared_models.logs.splits import cut
from shared_models.logs.tables.cigar import CIGAR, CIGAR_SHIFTED
from shared_models.logs.tables.ecrec import ECREC
from shared_models.logs.tables.format import Format
from shared_models.logs.tables.pinrec import PINREC
from shared_models.logs.tables.read import read_tables
from tests.shared_models.logs.conftest import make_source
from tests.shared_models.logs.tables.conftest import cigar_row, ecrec_row, pinrec_row, write_table


def source_of(folder: Path, form: Format, *rows: str) -> Source:
    return read_tables([write_table(folder, rows)], form)


def history_of(source: Source) -> list[int]:
    return source.events.filter(pl.col("request").is_null())["item"].to_list()


def listed(first: int, last: int) -> str:
    return ",".join(map(str, range(first, last + 1)))


def test_a_row_becomes_its_history_and_one_exposure(tmp_path: Path) -> None:
    source = source_of(tmp_path, ECREC, ecrec_row())

    assert source.task == "labelled-exposures"
    assert source.events.select("user", "item", "at", "label", "request", "row").rows() == [
        (4, 3, pytest.approx(1 / 6), 1, None, 0),
        (4, 5, pytest.approx(2 / 6), 1, None, 0),
        (4, 6, pytest.approx(3 / 6), 1, None, 0),
        (4, 8, pytest.approx(4 / 6), 1, None, 0),
        (4, 9, pytest.approx(5 / 6), 1, None, 0),
        (4, 7, 1.0, 1, 1, 1),
    ]


@pytest.mark.parametrize(
    ("short", "history"),
    [
        ("6", [3, 5, 6]),
        ("5,6", [3, 5, 6]),
        ("5,6,0,0", [3, 5, 6]),
        ("", [3, 5, 6]),
        ("3,5", [3, 5, 6, 3, 5]),
        ("6,8", [3, 5, 6, 6, 8]),
        ("2,3,5,6", [3, 5, 6, 2, 3, 5, 6]),
    ],
)
def test_a_short_sequence_follows_the_long_one_unless_that_ends_with_it(
    tmp_path: Path, short: str, history: list[int]
) -> None:
    row = ecrec_row(edge_item_seq=short, edge_cate_seq=short)

    assert history_of(source_of(tmp_path, ECREC, row)) == history


def test_sequences_keep_the_newest_100_and_no_padding(tmp_path: Path) -> None:
    long, short = f"{listed(1, 130)},0,0", f"0,{listed(200, 320)}"
    ecrec = ecrec_row(
        item_seq=long, cate_seq=long, edge_item_seq=short, edge_cate_seq=short, seq_len="130"
    )
    clicks = {
        f"click_{name}": long for name in ("adgroup", "cate", "campaign", "customer", "brand")
    }

    histories = [
        history_of(source_of(tmp_path, form, row))
        for form, row in ((ECREC, ecrec), (CIGAR, cigar_row(**clicks)))
    ]

    assert histories == [[*range(31, 131), *range(221, 321)], [*range(31, 131)]]


@pytest.mark.parametrize("said", ["100", "130"])
def test_a_length_is_that_of_all_ids_or_of_those_that_are_kept(tmp_path: Path, said: str) -> None:
    row = ecrec_row(item_seq=listed(1, 130), cate_seq=listed(1, 130), seq_len=said)

    assert len(history_of(source_of(tmp_path, ECREC, row))) == 102


def test_categories_are_features_of_items_wherever_they_are_told(tmp_path: Path) -> None:
    rows = ecrec_row(cate_seq="1,0,2"), ecrec_row(item_id="5", cate_id="3", cate_seq="9,9,9")

    items = source_of(tmp_path, ECREC, *rows).items

    assert items is not None
    assert sorted(items.rows()) == [
        ("3", "#1"),
        ("5", "#3"),
        ("6", "#2"),
        ("7", "#2"),
        ("8", "#1"),
        ("9", "#1"),
    ]


def test_an_item_whose_category_is_unknown_has_none(tmp_path: Path) -> None:
    items = source_of(tmp_path, ECREC, ecrec_row(cate_id="0", cate_seq="0,1,0")).items

    assert items is not None
    assert {raw for raw, cate in items.rows() if cate is None} == {"3", "6", "7"}


def test_profiles_and_fields_of_ads_become_features(tmp_path: Path) -> None:
    row = cigar_row(click_cate="0,1,2", cate_id="0", click_brand="4,4,0", brand_id="8")

    source = source_of(tmp_path, CIGAR, row)

    assert source.users is not None
    assert source.users.rows() == [("4", 0, 1, 2, 3, 4, 5, 6, 7, "5 6")]
    assert source.items is not None
    assert source.items.rows() == [
        ("7", "#0", "#7", "#7", "#8"),
        ("3", None, "#3", "#3", "#4"),
        ("5", "#1", "#5", "#5", "#4"),
        ("6", "#2", "#6", "#6", None),
    ]


def test_a_row_of_pinrec_becomes_its_history_an_exposure_and_a_group(tmp_path: Path) -> None:
    source = source_of(
        tmp_path, PINREC, pinrec_row(clk_sequence="0,0,3,5"), pinrec_row(user_id="9")
    )

    assert source.task == "labelled-exposures"
    assert source.events.select("user", "item", "label", "row").rows() == [
        (4, 3, 1, 0),
        (4, 5, 1, 0),
        (4, 7, 1, 1),
        (9, 3, 1, 0),
        (9, 5, 1, 0),
        (9, 6, 1, 0),
        (9, 7, 1, 2),
    ]
    assert source.users is not None
    assert source.users.rows() == [("4", 2), ("9", 2)]


def test_groups_of_a_table_are_those_that_users_are_first_told_with(tmp_path: Path) -> None:
    numbers = {user: user % 3 for user in range(20)}
    rows = [pinrec_row(user_id=str(u), group_id=str(g)) for u, g in numbers.items()]
    source = source_of(tmp_path, PINREC, *rows, pinrec_row(user_id="0", group_id="2"))
    log = prepare(source, "rows", tmp_path / "log")

    found_U = grouped(log, UserGroups(count=3, by="group"))

    told = [1 + numbers[int(raw)] for raw in log.user_table.sort("user")["raw"].to_list()]
    assert found_U.tolist() == told


def test_sequences_that_are_shifted_mean_the_ids_below(tmp_path: Path) -> None:
    row = cigar_row(click_adgroup="1,8,0", click_cate="3,0,0")

    source = source_of(tmp_path, CIGAR_SHIFTED, row)

    assert history_of(source) == [0, 7]
    assert source.items is not None
    assert dict(source.items.select("raw", "cate").rows()) == {"7": "#7", "0": "#2"}


def test_one_table_is_cut_by_its_rows(tmp_path: Path) -> None:
    rows = [ecrec_row(user_id=str(user), item_id=str(1 + user)) for user in range(20)]
    source = source_of(tmp_path, ECREC, *rows)

    log = prepare(source, "rows", tmp_path / "log")

    shown = {part: targets(getattr(log, part))["row"].to_list() for part in PARTS}
    assert shown == {"train": [*range(1, 15)], "validation": [15, 16], "test": [17, 18, 19, 20]}
    assert [len(getattr(log, part)) for part in PARTS] == [14 * 6, 2 * 6, 4 * 6]


def test_of_several_tables_the_last_one_tests_and_counts_its_rows_anew(tmp_path: Path) -> None:
    rows = [ecrec_row(user_id=str(user)) for user in range(20)]
    paths = [write_table(tmp_path, rows, name) for name in ("a.txt", "b.txt", "c.txt")]

    log = prepare(read_tables(paths, ECREC), "tables", tmp_path / "log")

    shown = {part: targets(getattr(log, part)) for part in PARTS}
    assert [len(shown[part]) for part in PARTS] == [36, 4, 20]
    assert shown["test"].sort("at")["row"].to_list() == list(range(1, 21))
    assert shown["validation"].sort("at")["row"].to_list() == [17, 18, 19, 20]
    assert shown["test"]["request"].n_unique() == 20


def test_a_table_too_short_to_be_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TooSmall, match="validation"):
        prepare(source_of(tmp_path, ECREC, ecrec_row()), "rows", tmp_path / "log")


def test_tables_are_cut_by_rows_and_other_logs_never_are(tmp_path: Path) -> None:
    table = numbered(source_of(tmp_path, ECREC, ecrec_row()))[0]
    events = numbered(make_source())[0]

    with pytest.raises(UnknownName):
        cut(table, "user-tail")
    with pytest.raises(UnknownName):
        cut(events, "rows")
