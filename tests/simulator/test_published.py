"""The check against published figures: two-sided, complete, and honest about its exit code."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from shared_models.contract.errors import RunFailed
from shared_models.logs.moments import Moments
from simulator import check_cli, cli
from simulator.published.bands import CHECKS, Band, Check
from simulator.published.measure import moved_ranks
from simulator.published.verdict import FILE, Finding, Measured, all_hold, judge, table, write

BAND = Band("HR@10", ".1103", 0.09, 0.15, "a paper")
Concerto = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("mean", "holds"),
    [(0.0899, False), (0.09, True), (0.12, True), (0.15, True), (0.1501, False), (0.19, False)],
)
def test_a_figure_that_is_too_good_is_as_wrong_as_one_that_is_too_low(
    mean: float, holds: bool
) -> None:
    assert BAND.holds(mean) is holds


def test_a_band_may_leave_its_upper_side_to_another_figure() -> None:
    ratio = Band("ratio", "2", 1.8, None, "a paper")

    assert [ratio.holds(mean) for mean in (1.79, 1.8, 99.0)] == [False, True, True]


def test_a_figure_that_is_no_number_does_not_hold() -> None:
    assert not BAND.holds(float("nan"))


def test_seeds_are_judged_by_their_mean() -> None:
    check = Check((0, 1), (BAND,))

    (high_and_low,) = judge("gru4rec", check, {"HR@10": [0.08, 0.14]})
    (both_high,) = judge("gru4rec", check, {"HR@10": [0.14, 0.17]})

    assert high_and_low.holds
    assert not both_high.holds
    assert not all_hold([high_and_low, both_high])


@pytest.mark.parametrize("measured", [{}, {"HR@10": []}, {"hr@10": [0.1]}])
def test_a_figure_that_was_not_measured_is_no_pass(measured: Measured) -> None:
    with pytest.raises(RunFailed, match=r"gru4rec measured no HR@10"):
        judge("gru4rec", Check((0,), (BAND,)), measured)


def test_findings_are_written_with_their_band_and_source(tmp_path: Path) -> None:
    findings = [Finding("gru4rec", BAND, (0.1, 0.14)), Finding("gru4rec", BAND, (0.1,))]

    path = write(findings, tmp_path / "out")

    found = json.loads(path.read_text())
    assert path == tmp_path / "out" / FILE
    assert found["holds"] is True
    assert found["findings"][0] == {
        "check": "gru4rec",
        "figure": "HR@10",
        "by_seed": [0.1, 0.14],
        "mean": pytest.approx(0.12),
        "known": ".1103",
        "low": 0.09,
        "high": 0.15,
        "source": "a paper",
        "holds": True,
    }


def test_the_table_tells_the_seeds_the_band_and_the_verdict() -> None:
    shown = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123

    shown.print(table([Finding("gru4rec", BAND, (0.1, 0.3))]))

    text = shown.export_text()
    for words in ("gru4rec", "HR@10", "0.2000", "0.1000 0.3000", ".1103", "0.09 to 0.15", "FAILS"):
        assert words in text


def test_every_expectation_names_its_source_and_makes_sense() -> None:
    for check in CHECKS.values():
        names = [band.figure for band in check.bands]
        assert len(set(names)) == len(names)
        for band in check.bands:
            assert band.source
            assert band.high is None or band.low <= band.high


def moments_of(taken: list[int], items: int) -> Moments:
    count = len(taken)
    labels = np.zeros((count, items), bool)
    labels[np.arange(count), taken] = True
    return Moments(
        np.arange(count),
        np.zeros(count),
        np.ones(count, np.int64),
        np.full(count, items),
        np.tile(np.arange(1, items + 1), count),
        labels.ravel(),
        np.zeros(count, bool),
    )


def test_a_rank_moves_only_where_scores_really_differ() -> None:
    moments = moments_of([0, 0, 0], 3)
    torch = np.array([2, 1, 0, 2, 2, 0, 1, 2, 3], np.float32)
    noisy = torch + np.array([0, 0, 0, 0, 1e-6, 0, 0, 0, 0], np.float32)
    other = torch + np.array([0, 2, 0, 0, 2, 0, 0, -2, 0], np.float32)

    assert moved_ranks(moments, torch, torch) == 0
    assert moved_ranks(moments, noisy, torch) == 0
    # What ties may move is half a place here; the first and the last rank move by a whole one.
    assert moved_ranks(moments, other, torch) == 2


@pytest.fixture
def concerto(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Concerto:
    """Runs ``concerto check published ...`` where each check measures what its own band allows."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, measured: float = 0.1) -> tuple[int, str, str]:
        async def measure(about: Check, *_: object) -> Measured:
            return {band.figure: [measured] for band in about.bands}

        checks = {"one": Check((0,), (BAND,)), "two": Check((), (BAND,))}
        monkeypatch.setattr(check_cli, "CHECKS", checks)
        monkeypatch.setattr(check_cli, "measure", measure)
        monkeypatch.setattr(check_cli, "end_like_ctrl_c", lambda: None)
        monkeypatch.setattr(sys, "argv", ["concerto", "check", "published", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_a_check_that_holds_ends_with_0_and_one_that_does_not_with_1(
    concerto: Concerto, tmp_path: Path
) -> None:
    good, table_of_both, _ = concerto("--out", "good")
    bad, _, _ = concerto("--out", "bad", measured=0.2)

    assert (good, bad) == (0, 1)
    assert table_of_both.count("holds") == 2
    assert json.loads((tmp_path / "good" / FILE).read_text())["holds"] is True
    assert json.loads((tmp_path / "bad" / FILE).read_text())["holds"] is False


def test_only_the_named_checks_are_measured(concerto: Concerto, tmp_path: Path) -> None:
    concerto("--only", "two", "--out", "some")

    findings = json.loads((tmp_path / "some" / FILE).read_text())["findings"]
    assert [finding["check"] for finding in findings] == ["two"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "on"], "unknown check 'on': did you mean 'one'"),
        (["--seeds", "0,x"], "expected numbers as in 0,1,2, got '0,x'"),
        (["--seeds", "-1"], "expected numbers as in 0,1,2, got '-1'"),
    ],
)
def test_a_wrong_option_is_told_and_nothing_is_written(
    concerto: Concerto, tmp_path: Path, arguments: list[str], words: str
) -> None:
    code, _, said = concerto(*arguments)

    assert code == 2
    assert words in said
    assert list(tmp_path.iterdir()) == []
