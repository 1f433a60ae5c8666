"""Links: profiles, traces, and complaints about files that are no traces."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shared_models.contract.errors import BadLog, InputError, PathMissing, UnknownName
from simulator.links import COLUMNS, PROFILES, Link, Point, link

TRACE = "seconds,down_mbit,up_mbit,rtt_ms\n100,10,2,50\n110,30,4,150\n120,10,2,50\n"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "train.csv"
    path.write_text(TRACE)
    return path


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_stays_as_it_is_and_says_where_it_comes_from(name: str) -> None:
    profile = link(name)

    now = profile.at(np.array([0.0, 8.9e8]))

    (point,) = profile.points
    assert now.up_rate.tolist() == [point.up_rate] * 2
    assert now.down_rate.tolist() == [point.down_rate] * 2
    assert now.rtt_s.tolist() == [point.rtt_s] * 2
    assert profile.name == name
    assert profile.source


def test_profiles_get_slower_from_one_to_the_next() -> None:
    points = [PROFILES[name].points[0] for name in ("wifi", "5g", "4g", "3g")]

    assert [p.rtt_s for p in points] == sorted(p.rtt_s for p in points)
    assert [p.down_rate for p in points] == sorted((p.down_rate for p in points), reverse=True)


def test_a_profile_stalls_for_a_retransmission_timeout() -> None:
    for profile in (PROFILES[name] for name in ("wifi", "5g", "4g", "3g")):
        assert profile.stall_s == pytest.approx(0.2 + profile.points[0].rtt_s)


def test_a_trace_is_linear_between_its_rows_and_loops(trace: Path) -> None:
    now = link(str(trace)).at(np.array([0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 1010.0]))

    assert now.down_rate.tolist() == [10e6, 20e6, 30e6, 20e6, 10e6, 20e6, 30e6]
    assert now.up_rate.tolist() == [2e6, 3e6, 4e6, 3e6, 2e6, 3e6, 4e6]
    np.testing.assert_allclose(now.rtt_s, [0.05, 0.1, 0.15, 0.1, 0.05, 0.1, 0.15])


def test_a_trace_of_one_row_is_a_steady_link(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("\n".join(TRACE.splitlines()[:2]))

    assert link(str(path)).at(np.array([0.0, 7e8])).rtt_s.tolist() == [0.05, 0.05]


def test_parquet_and_csv_hold_the_same_trace(trace: Path) -> None:
    parquet = trace.with_suffix(".parquet")
    pl.read_csv(trace).write_parquet(parquet)

    assert link(str(parquet)).points == link(str(trace)).points


def test_one_time_is_as_many(trace: Path) -> None:
    train = link(str(trace))

    assert train.point_at(30.0) == Point(30.0, up_rate=4e6, down_rate=30e6, rtt_s=0.15)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("130,fast,2,50", "row 5, column 'down_mbit': expected a number"),
        ("130,,2,50", "row 5, column 'down_mbit': expected a number"),
        ("130,inf,2,50", "row 5, column 'down_mbit': expected a number"),
        ("130,10,0,50", "row 5, column 'up_mbit': expected a rate above 0"),
        ("130,10,2,-1", "row 5, column 'rtt_ms': expected 0 or more"),
        ("120,10,2,50", "row 5, column 'seconds': not after the row above"),
    ],
)
def test_a_bad_row_of_a_trace_is_named(trace: Path, row: str, words: str) -> None:
    trace.write_text(f"{TRACE}{row}\n")

    with pytest.raises(BadLog) as caught:
        link(str(trace))

    assert words in str(caught.value)
    assert str(trace) in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("seconds", [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)]),
        ("seconds", [timedelta(0), timedelta(seconds=1)]),
        ("down_mbit", [[10.0], [30.0]]),
        ("up_mbit", [b"2", b"4"]),
        ("rtt_ms", [{"ms": 50.0}, {"ms": 150.0}]),
        ("rtt_ms", [True, False]),
    ],
)
def test_a_column_of_a_trace_that_holds_no_numbers_is_named(
    tmp_path: Path, column: str, values: list[object]
) -> None:
    path = tmp_path / "train.parquet"
    numbers = {name: [1.0, 2.0] for name in COLUMNS}
    pl.DataFrame({**numbers, column: values}).write_parquet(path)

    with pytest.raises(BadLog, match=f"row 2, column '{column}': expected a number, got"):
        link(str(path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"seconds,down_mbit,up_mbit\n0,1,1\n", "no column 'rtt_ms'; it has seconds, down_mbit"),
        (b"seconds,down_mbit,up_mbit,rtt_ms\n", "empty"),
        (b"", "empty"),
        (bytes(range(256)) * 8, "train.csv"),
    ],
)
def test_a_file_that_is_no_trace_is_told(trace: Path, content: bytes, words: str) -> None:
    trace.write_bytes(content)

    with pytest.raises(InputError, match=words):
        link(str(trace))


def test_an_unknown_link_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'wifi'"):
        link("wify")
    with pytest.raises(PathMissing, match=r"none\.csv"):
        link("none.csv")


def test_points_out_of_order_make_no_link() -> None:
    with pytest.raises(ValueError, match="in order"):
        Link("bad", (Point(0.0, 1, 1, 0), Point(0.0, 1, 1, 0)))


def test_the_documentation_gives_the_figures_that_are_used() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in Path("docs/links.md").read_text().splitlines()
    ]
    told = {row[0].strip("`"): row[1:6] for row in rows if row[0].strip("`") in PROFILES}

    for name, profile in PROFILES.items():
        (point,) = profile.points
        if name != "none":
            assert told[name] == [
                f"{point.down_rate / 1e6:g} / {point.up_rate / 1e6:g}",
                f"{point.rtt_s * 1e3:g} ms",
                f"{profile.jitter_s * 1e3:g} ms",
                f"{profile.loss * 100:g} %",
                f"{profile.stall_s * 1e3:g} ms",
            ]
    assert told.keys() == PROFILES.keys()
