"""Splits: every event falls into one part, parts follow each other, and order is stable."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_models.contract.errors import TooSmall
from shared_models.logs.moments import FULL, SHORTLIST, protocol_name
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PARTS
from shared_models.logs.source import Source, numbered
from shared_models.logs.splits import SPLITS, cut
from tests.shared_models.logs.conftest import make_source

# A user has at most 6 events at one of 4 times: ties are common, and some users are short.
EVENTS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 8), st.integers(0, 3)), min_size=4, max_size=30
)


def events_of(rows: list[tuple[int, int, int]]) -> pl.DataFrame:
    columns = {"user": pl.Int64, "item": pl.Int64, "at": pl.Float64}
    frame = pl.DataFrame([(u, i, float(t)) for u, i, t in rows], schema=columns, orient="row")
    return frame.with_columns(file=pl.int_range(pl.len()))


@given(EVENTS)
def test_leave_one_out_tests_the_last_event_and_validates_on_the_one_before(
    rows: list[tuple[int, int, int]],
) -> None:
    raw = events_of(rows).sort("user", "at", "file")
    events = raw.with_columns(seq=pl.int_range(pl.len()).over("user"))
    lives = events["user"].value_counts()["count"]
    if lives.max() < 3:
        with pytest.raises(TooSmall):
            cut(events, "leave-one-out")
        return

    parts = cut(events, "leave-one-out")

    assert sum(map(len, parts.values())) == len(events)
    for (user,), own in events.group_by("user"):
        cuts = {name: part.filter(pl.col("user") == user)["file"] for name, part in parts.items()}
        order = own.sort("at", "file")["file"].to_list()
        if len(order) < 3:
            assert cuts["train"].to_list() == order
        else:
            assert [cuts[name].to_list() for name in PARTS] == [
                order[:-2],
                order[-2:-1],
                order[-1:],
            ]


def test_events_of_the_same_second_are_left_out_in_the_order_of_the_file() -> None:
    frame = pl.DataFrame({"user": 1, "item": [5, 3, 9, 1], "at": [7.0, 7.0, 7.0, 2.0]})
    events, tables = numbered(Source("burst", frame))

    parts = cut(events, "leave-one-out")

    raw = dict(tables["items"].select("item", "raw").iter_rows())
    assert [[raw[i] for i in parts[name]["item"]] for name in PARTS] == [["1", "5"], ["3"], ["9"]]


def test_leave_one_out_leaves_out_requests_as_a_whole() -> None:
    shown = pl.DataFrame(
        {
            "user": 0,
            "item": list(range(12)),
            "at": [float(n // 3) for n in range(12)],
            "label": [1.0, 0.0, 0.0] * 4,
            "request": [n // 3 for n in range(12)],
        }
    )
    events, _ = numbered(Source("shown", shown))

    parts = cut(events, "leave-one-out")

    assert [sorted(set(parts[name]["request"])) for name in PARTS] == [[0, 1], [2], [3]]


@pytest.mark.parametrize("split", SPLITS)
def test_a_part_has_the_columns_of_the_log(split: str) -> None:
    events, _ = numbered(make_source())

    assert {tuple(part.columns) for part in cut(events, split).values()} == {tuple(events.columns)}


@pytest.mark.parametrize(
    ("split", "shares"),
    [
        ("user-tail", "user-tail 70/10/20"),
        ("global-time", "global-time 70/10/20"),
        ("leave-one-out", "leave-one-out all before / last but one / last"),
    ],
)
def test_a_protocol_says_how_it_cuts_what_it_ranks_and_what_that_leaks(
    tmp_path: Path, split: str, shares: str
) -> None:
    log = prepare(make_source(), split, tmp_path / "log")

    full, short = (protocol_name(log, candidates, 0) for candidates in (FULL, SHORTLIST))

    for name in (full, short):
        assert f"{shares}, " in name
        assert name.endswith(f"the split leaks: {SPLITS[split].leaks}")
    assert "full catalogue, history not masked" in full
    assert "never-touched" in short
