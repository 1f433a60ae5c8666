"""The numbers in the charts are those of the rankings."""

from pathlib import Path

import polars as pl
import pytest

from simulator.report import load_run
from simulator.report.charts import trade
from simulator.report.entries import entries
from simulator.report.figures import (
    BINS,
    PARTS,
    latency_curves,
    latency_parts,
    learning,
    shares,
    tells_cloud_parts,
    time_unit,
    traffic,
)
from simulator.report.marks import bytes_axis
from simulator.report.run_data import RunData
from simulator.report.sections import trade_of_bytes
from simulator.report.sections import traffic as traffic_charts


@pytest.fixture(scope="module")
def run(compared: Path) -> RunData:
    return load_run(compared, scores=False)


def of(run: RunData, entry: str) -> pl.DataFrame:
    return run.rankings.filter(entry=entry)


def test_no_byte_of_traffic_is_lost_between_the_spans(run: RunData) -> None:
    spans = traffic(run.rankings, run.ledger).filter(entry="duet")

    assert len(spans) == BINS
    assert spans["down"].sum() == pytest.approx(of(run, "duet")["bytes_down"].sum() / 2)
    assert spans["up"].sum() == pytest.approx(of(run, "duet")["bytes_up"].sum() / 2)
    assert traffic(run.rankings, run.ledger).filter(entry="base").is_empty()


@pytest.mark.parametrize(("span", "unit"), [(2.0, "seconds"), (200, "minutes"), (9e5, "days")])
def test_virtual_time_is_told_in_a_unit_that_fits(span: float, unit: str) -> None:
    assert time_unit(pl.DataFrame({"at": [7.0, 7.0 + span]}))[0] == unit


def test_the_parts_of_latency_add_up_to_the_whole(run: RunData) -> None:
    parts = latency_parts(run.rankings).filter(entry="duet")

    assert parts["part"].to_list() == list(PARTS)
    whole = 1000 * of(run, "duet")["seconds"].cast(pl.Float64).mean()  # type: ignore[operator]
    assert parts["ms"].sum() == pytest.approx(whole, rel=1e-4)
    told = 1000 * of(run, "duet")["queue_seconds"].mean()  # type: ignore[operator]
    assert parts.filter(part="queue")["ms"].item() == pytest.approx(told, rel=1e-4)


def test_where_nobody_asks_the_cloud_has_nothing_to_tell(run: RunData) -> None:
    asks, untold = of(run, "duet"), pl.lit(None, pl.Float64)

    assert tells_cloud_parts(of(run, "base"))
    assert tells_cloud_parts(asks)
    assert not tells_cloud_parts(asks.with_columns(compute_seconds=untold))
    assert not tells_cloud_parts(asks.drop("compute_seconds"))
    some = pl.when(pl.col("seq") % 2 == 0).then("compute_seconds")
    assert not tells_cloud_parts(asks.with_columns(compute_seconds=some))


def test_a_curve_is_made_of_quantiles(run: RunData) -> None:
    curve = latency_curves(run.rankings).filter(entry="duet", link="3g")

    assert curve["ms"].is_sorted()
    median = curve.filter(share=0.5)["ms"].item()
    assert median == pytest.approx(1000 * of(run, "duet")["modelled_3g"].median(), rel=1e-5)  # type: ignore[operator]


def test_an_entry_of_which_no_latency_is_known_has_no_curve(run: RunData) -> None:
    unknown = run.rankings.with_columns(modelled_3g=pl.lit(None, pl.Float64))

    curves = latency_curves(unknown)

    assert "3g" not in curves["link"]
    assert curves["ms"].is_finite().all()


def test_shares_are_of_all_rankings_of_an_entry(run: RunData) -> None:
    found = shares(run.rankings, "decision").filter(entry="duet[codec=latent-i8] <b>&amp;")

    assert found["kind"].to_list() == ["refresh"]
    assert found["share"].to_list() == [1.0]


@pytest.mark.parametrize("purpose", ["refresh", "group"])
def test_traffic_over_time_has_the_purposes_of_the_ledger(run: RunData, purpose: str) -> None:
    ledger = run.ledger.with_columns(pl.col("purpose").replace("refresh", purpose))

    (first, *_) = traffic_charts(ledger, run.rankings, entries(run))

    assert first.kinds == [purpose]
    assert {row["purpose"] for row in first.spec["data"]["values"]} == {purpose}
    assert "payload that rankings waited for" in first.reading


def test_learning_counts_only_what_was_learnt_from(run: RunData) -> None:
    found = learning(run.rankings)

    assert found["entry"].to_list() == ["finetune"]
    assert found["steps"].to_list() == [of(run, "finetune").height]


@pytest.mark.parametrize(
    ("costs", "ends"),
    [([0.0], [0, 10]), ([40.0], [10, 160]), ([40.0, 60.0], [10, 240]), ([0.0, 60.0], None)],
)
def test_costs_that_lie_close_together_have_an_axis_that_can_be_read(
    costs: list[float], ends: list[float] | None
) -> None:
    known = {"number": 1, "entry": "base", "mean": 0.5, "low": 0.4, "high": 0.6, "best": True}

    spec = trade([{**known, "cost": cost} for cost in costs], bytes_axis(), "AUC")

    assert spec["layer"][0]["encoding"]["x"]["scale"].get("domain") == ends


def test_the_dashed_line_joins_what_no_other_entry_beats(run: RunData) -> None:
    (chart, _) = trade_of_bytes(entries(run))

    rows = chart.spec["data"]["values"]
    for row in rows:
        beaten = any(other["cost"] <= row["cost"] and other["mean"] > row["mean"] for other in rows)
        assert not (row["best"] and beaten)
    assert any(row["best"] for row in rows)
    assert not all(row["best"] for row in rows)
