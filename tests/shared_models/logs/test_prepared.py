"""The prepared log: numbered, cut, written whole, named by its content."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shared_models.contract.errors import BadLog, PathMissing, TooSmall, UnknownName
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog, open_log, taken, targets
from shared_models.logs.source import Source
from tests.shared_models.logs.conftest import make_source


def test_a_prepared_log_reads_as_it_was_written(toy_log: PreparedLog) -> None:
    again = open_log(toy_log.folder)

    assert again.manifest == toy_log.manifest
    assert again.events.equals(toy_log.events)


def test_users_and_items_are_numbered_densely_and_map_back(toy_log: PreparedLog) -> None:
    events = toy_log.events

    assert sorted(events["user"].unique()) == list(range(toy_log.users))
    assert sorted(events["item"].unique()) == list(range(1, toy_log.items + 1))
    assert toy_log.item_table["raw"][0] == "1000"
    assert toy_log.user_table["raw"].to_list() == [f"u{user}" for user in range(6)]


def test_a_users_parts_follow_each_other_in_time(toy_log: PreparedLog) -> None:
    for user in range(toy_log.users):
        parts = [
            part.filter(pl.col("user") == user)
            for part in (toy_log.train, toy_log.validation, toy_log.test)
        ]
        count = sum(map(len, parts))
        assert [len(part) for part in parts[1:]] == [count * 10 // 100, count * 20 // 100]
        assert pl.concat(parts)["seq"].to_list() == list(range(count))
        assert pl.concat(parts)["at"].is_sorted()


def test_a_global_split_lets_nobody_see_the_future(tmp_path: Path) -> None:
    log = prepare(make_source(), "global-time", tmp_path / "log")

    assert log.train["at"].max() < log.validation["at"].min()
    assert log.validation["at"].max() < log.test["at"].min()


def test_events_of_the_same_second_keep_the_order_of_the_file(tmp_path: Path) -> None:
    items = [5, 3, 9, 1, 7, 2, 8, 4, 6, 0, 11, 10]
    frame = pl.DataFrame({"user": 1, "item": items, "at": 5.0})

    log = prepare(Source("burst", frame), "user-tail", tmp_path / "log")

    raw = log.events.join(log.item_table, on="item", maintain_order="left")["raw"]
    assert raw.to_list() == [str(item) for item in items]


def test_the_hash_names_the_content_and_not_the_place(tmp_path: Path) -> None:
    one = prepare(make_source(), "user-tail", tmp_path / "one")
    two = prepare(make_source(), "user-tail", tmp_path / "deep" / "two")
    other = prepare(make_source(events=21), "user-tail", tmp_path / "other")
    cut = prepare(make_source(), "global-time", tmp_path / "cut")

    assert one.hash == two.hash
    assert len({one.hash, other.hash, cut.hash}) == 3


def test_behaviour_has_requests_of_its_own_below_0_and_is_no_target(shown_log: PreparedLog) -> None:
    events = shown_log.events

    mere = events.filter(pl.col("request") < 0)
    assert len(mere) == 5 * 20 * 2
    assert len(mere.unique(["user", "request"])) == len(mere)
    assert set(mere["label"]) == {1.0}
    assert targets(events).equals(events.filter(pl.col("item") > 10))
    assert len(taken(events)) == 5 * 20 * 2 + 4 * 20


def test_a_part_with_behaviour_alone_is_refused(tmp_path: Path) -> None:
    clicks = {"user": 0, "item": range(100), "at": np.arange(100.0), "label": 1, "request": None}
    shown = {"user": 0, "item": range(9), "at": np.arange(9.0), "label": 1, "request": range(9)}
    events = pl.concat([pl.DataFrame(shown), pl.DataFrame(clicks)], how="vertical_relaxed")

    with pytest.raises(TooSmall, match="nothing for validation and test"):
        prepare(Source("early", events), "user-tail", tmp_path / "log")


def test_nothing_is_left_of_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(TooSmall):
        prepare(make_source(users=1, events=2, items=3), "user-tail", tmp_path / "log")

    assert list(tmp_path.iterdir()) == []


def test_an_unknown_split_is_told_its_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'user-tail'"):
        prepare(make_source(), "user-tails", tmp_path / "log")


def test_a_one_item_catalogue_is_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [1, 2], "item": [3, 3], "at": [0.0, 1.0]})

    with pytest.raises(TooSmall, match="one item"):
        prepare(Source("tiny", frame), "user-tail", tmp_path / "log")


def test_a_log_of_another_format_or_with_lost_parts_is_refused(toy_log: PreparedLog) -> None:
    about = toy_log.folder / "log.json"
    fields = json.loads(about.read_text())
    (toy_log.folder / "test.parquet").unlink()
    with pytest.raises(BadLog, match="lacks test"):
        open_log(toy_log.folder)

    about.write_text(json.dumps({**fields, "format": 7}))
    with pytest.raises(BadLog, match="format 7"):
        open_log(toy_log.folder)

    about.unlink()
    with pytest.raises(PathMissing):
        open_log(toy_log.folder)


def test_a_damaged_part_is_told_when_it_is_read(toy_log: PreparedLog) -> None:
    (toy_log.folder / "test.parquet").write_bytes(b"junk")

    with pytest.raises(BadLog, match=r"test\.parquet is damaged"):
        _ = open_log(toy_log.folder).test


@pytest.mark.parametrize("split", ["user-tail", "global-time"])
def test_what_one_request_showed_is_never_cut_in_two(tmp_path: Path, split: str) -> None:
    rows = [
        {"user": user, "item": place, "at": 60.0 * step + place, "label": float(place == 1)}
        | {"request": step}
        for user in range(2)
        for step in range(23)
        for place in range(7)
    ]

    log = prepare(Source("shown", pl.DataFrame(rows)), split, tmp_path / "log")

    for part in (log.train, log.validation, log.test):
        assert set(part.group_by("user", "request").len()["len"]) == {7}
