"""The page: whole in one file, honest about what is missing, safe against any label."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from simulator import cli
from simulator.report import load_run
from simulator.report.entries import entries
from simulator.report.page import write_report
from simulator.report.sections import by_round
from simulator.report.tables import differences
from tests.simulator.report.conftest import ENTRIES, Made, make_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", ENTRIES[:2], count=300, seeds=(0,))


def body(page: Path) -> str:
    """The page without the charting library."""
    return page.read_text().partition('<script type="application/json"')[0]


def test_a_label_is_text_and_never_markup(compared: Path) -> None:
    page = write_report(compared)

    assert "&lt;b&gt;&amp;amp;" in body(page)
    assert "<b>&amp;" not in page.read_text()


def test_the_page_forbids_every_connection(compared: Path) -> None:
    text = body(write_report(compared))

    assert "default-src 'none'" in text
    assert re.findall(r'(?:src|href)="(?!#)', text) == []


def test_a_reader_finds_what_was_run_and_how_to_run_it_again(folder: Path) -> None:
    text = body(write_report(folder))

    for words in (
        "base and duet on made",
        "users of the log made, split user-tail, with 1 model seed each",
        "4 device processes and one cloud process",
        "ranks better than base",
        "nothing, it is made up",
        "concerto run --scenario scenario.yaml",
        "data_seed: 0",
    ):
        assert words in text
    assert "±" in text


def test_entries_are_held_against_what_the_scenario_names(tmp_path: Path) -> None:
    entries = [ENTRIES[-1], ENTRIES[0], ENTRIES[1]]
    folder = make_run(tmp_path, entries, count=300, seeds=(0,), against=("base",))

    text = body(write_report(folder))

    assert "ranks better than base" in text
    assert "is not compared with" not in text


def test_of_one_user_alone_nothing_is_said_to_rank_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.simulator.report.conftest.USERS", 1)
    folder = make_run(tmp_path, ENTRIES[:2], count=50, seeds=(0,))

    text = body(write_report(folder))

    assert "ranks better" not in text
    assert "is not compared with base" in text
    assert "more than one user" in text


def test_differences_stand_in_the_order_of_the_entries(tmp_path: Path) -> None:
    folder = make_run(tmp_path, [ENTRIES[0], ENTRIES[7], ENTRIES[1]], count=300, seeds=(0,))
    run = load_run(folder, scores=False)

    rows, _ = differences(run, entries(run))

    assert [row["later"].label for row in rows] == ["popularity", "duet"]


def test_entries_with_other_rounds_and_no_auc_have_no_empty_chart(tmp_path: Path) -> None:
    often = Made("often", 1, 100, 1.5, settings="[replay.round_events=50]")
    run = load_run(make_run(tmp_path, [ENTRIES[0], often], count=300, seeds=(0,)), scores=False)
    for found in run.metrics["methods"].values():
        found["auc"] = dict.fromkeys(found["auc"])

    assert [chart.title for chart in by_round(entries(run))] == ["NDCG@10 by the length of a round"]


def test_an_entry_far_below_all_others_is_told_beside_the_charts_and_not_drawn(
    tmp_path: Path,
) -> None:
    close = [Made(f"m{number}", 0, 0, 2 + number / 100) for number in range(5)]
    folder = make_run(tmp_path, [*close, Made("far", 0, 0, 0.0)], count=300, seeds=(0,))

    text = body(write_report(folder))

    assert re.search(r"Not shown, since far below all others: far \(0\.\d+\)\.", text)


def test_measured_and_modelled_charts_are_told_apart(folder: Path) -> None:
    text = body(write_report(folder))

    origins = re.findall(r'<figure class="(\w*)">\s*<div class="head">\s*<h3>(.*?)</h3>', text)
    told = {title: origin for origin, title in origins}
    assert told["Latency, loopback"] == "measured"
    assert told["Latency, 4g"] == told["AUC against latency, 4g"] == "modelled"


def test_latency_as_measured_stands_in_where_nothing_was_modelled(tmp_path: Path) -> None:
    folder = make_run(tmp_path, ENTRIES[:2], count=300, seeds=(0,), modelled=False)

    text = body(write_report(folder))

    assert "AUC against latency, loopback" in text
    assert "modelled</span>" not in text
    assert "transfer holds the whole exchange" in text


def test_a_run_that_was_cut_short_says_so(tmp_path: Path) -> None:
    folder = make_run(tmp_path, ENTRIES[:2], count=300, seeds=(0,), complete=False)

    text = body(write_report(folder))

    assert "This run was cut short" in text
    assert "base (cut short)" in text


def test_a_run_that_was_cut_short_between_two_entries_says_so(folder: Path) -> None:
    path = folder / "scenario.yaml"
    path.write_text(path.read_text().replace("methods:\n", "methods:\n- never\n"))

    text = body(write_report(folder))

    assert "This run was cut short" in text


def test_an_entry_that_misses_a_seed_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path, ENTRIES[:2], count=300, seeds=(0, 1))
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["methods"]["duet"]["seeds"] = [0]
    (folder / "metrics.json").write_text(json.dumps(metrics))

    text = body(write_report(folder))

    assert "with 1 to 2 model seeds each" in text
    assert "This run was cut short" in text


def test_a_run_from_before_groups_were_kept_is_reported(folder: Path) -> None:
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text())
    for found in metrics["methods"].values():
        del found["by_activity"], found["by_staleness"]
    path.write_text(json.dumps(metrics))

    assert "before accuracy by group was kept" in body(write_report(folder))


def test_a_run_without_rankings_files_is_reported(folder: Path) -> None:
    for file in folder.glob("rankings-*"):
        file.unlink()

    assert "0.8" in body(write_report(folder))


def test_the_same_files_give_the_same_page(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "run"
    shutil.copytree(folder, copy)

    assert write_report(folder).read_bytes() == write_report(copy).read_bytes()


def test_concerto_report_writes_the_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["concerto", "report", str(folder)])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert not ended.value.code
    assert str(folder / "report.html") in capsys.readouterr().out
    assert (folder / "report.html").stat().st_size > 500_000


def test_concerto_report_refuses_a_folder_without_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["concerto", "report", str(tmp_path)])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 2
    assert "is this the folder of a run?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_releases_have_a_chart_and_say_what_each_of_them_cost(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", ENTRIES[:2], count=300, spans=[(0, 200), (200, 300)])

    text = body(write_report(folder))

    assert "AUC from release to release" in text
    assert "200\N{EN DASH}299" in text
    assert "97 kB" in text


def test_entries_with_other_rounds_are_joined_where_nothing_else_differs(tmp_path: Path) -> None:
    played = [
        Made("short", 1, 90, 1.8, settings="[replay.round_events=50]"),
        Made("long", 1, 90, 1.5, settings="[replay.round_events=500]"),
        Made("never", 0, 0, 1.2, settings="[device.refresh.rule=never]"),
    ]

    page = write_report(make_run(tmp_path / "run", played, count=300)).read_text()

    specs = json.loads(re.findall(r'id="specs">(.*?)</script>', page)[0])
    rows = {row["entry"]: row for row in specs["round-auc"]["data"]["values"]}
    assert [rows[name]["round_events"] for name in rows] == [50, 500, 2000]
    assert rows["short"]["family"] == rows["long"]["family"] != rows["never"]["family"]


def test_what_did_not_happen_has_no_chart(folder: Path) -> None:
    text = body(write_report(folder))

    assert "from release to release" not in text.lower()
    assert "length of a round" not in text
