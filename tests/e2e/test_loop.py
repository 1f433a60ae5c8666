"""The whole loop: train, serve, replay on device processes, report."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs
import pytest

from simulator.metrics_model import Metrics
from tests.e2e.conftest import COMPARED, command
from tests.runs import comparable, found, payload

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


def test_four_devices_and_a_cloud_run_and_only_the_cloud_has_torch(compared: Path) -> None:
    about = found(compared, "environment.json")

    devices, clouds = about["devices"], about["clouds"]

    pids = {process["pid"] for process in (*devices, *clouds, about["simulator"])}
    assert len(devices) == 4
    assert len(clouds) == 3
    assert len(pids) == 8
    for process in (*devices, about["simulator"]):
        assert {"grpc", "numpy"} <= set(process["modules"])
        assert "torch" not in process["modules"]
    assert all("onnxruntime" in device["modules"] for device in devices)


def test_duet_beats_base_where_groups_conflict(compared: Path) -> None:
    metrics = found(compared)

    gain = metrics["differences"]["duet-base"]["auc"]

    assert gain["low"] > 0
    best = 0.95
    assert metrics["methods"]["duet"]["auc"]["mean"] < best


def test_a_run_leaves_a_report_and_figures_that_keep_to_their_schema(compared: Path) -> None:
    Metrics.model_validate_json((compared / "metrics.json").read_text(), strict=True)

    assert "base, duet and finetune on synthetic" in (compared / "report.html").read_text()


def test_metrics_have_the_promised_shape(compared: Path) -> None:
    metrics = found(compared)

    assert "user-tail 70/10/20" in metrics["protocol"]
    assert metrics["totals"]["recommendations"] == sum(
        about["recommendations"] for about in metrics["methods"].values()
    )
    for about in metrics["methods"].values():
        for name in ("auc", "gauc", "hr@10", "ndcg@10"):
            assert about[name]["low"] < about[name]["mean"] < about[name]["high"]
        assert 0 < about["latency_ms"]["p50"] <= about["latency_ms"]["p95"]


def test_base_costs_no_traffic_and_duet_pays_for_every_refresh(compared: Path) -> None:
    methods = found(compared)["methods"]

    assert methods["base"]["bytes_up_per_rec"] == methods["base"]["bytes_down_per_rec"] == 0
    # 2,112 half floats, their names and shapes; 20 item ids of at most two bytes.
    assert 4224 < methods["duet"]["bytes_down_per_rec"] < 4600
    assert 20 < methods["duet"]["bytes_up_per_rec"] < 80


def test_finetune_learns_on_the_device_and_costs_no_traffic(compared: Path) -> None:
    metrics = found(compared)
    about, measured = metrics["methods"]["finetune"], metrics["measured"]["learning_ms"]
    rankings = pl.read_parquet(compared / "rankings-finetune-0.parquet")

    learned = about["sources"]["learned-weights"]

    assert about["bytes_up_per_rec"] == about["bytes_down_per_rec"] == 0
    # Each user's first ranking comes before anything was learned.
    assert learned == about["recommendations"] - rankings["user"].n_unique()
    assert rankings["learning_seconds"].min() > 0
    assert measured["finetune"]["mean"] > 0
    assert measured["base"] == measured["duet"] == {"mean": 0.0, "p95": 0.0}
    # Of 2,112 numbers: the values, and Adam's two moments of their gradients.
    assert about["state_bytes_per_device"] == 3 * 4 * 2112
    assert metrics["methods"]["duet"]["state_bytes_per_device"] == 4 * 2112
    assert metrics["methods"]["base"]["state_bytes_per_device"] == 0


@pytest.mark.parametrize("devices", [1, 2])
def test_the_result_does_not_depend_on_the_number_of_processes(
    compared: Path, concerto_run: Any, tmp_path: Path, devices: int
) -> None:
    metrics = concerto_run(tmp_path / "again", *COMPARED, "--devices", str(devices))

    assert comparable(metrics) == comparable(found(compared))
    assert payload(tmp_path / "again").equals(payload(compared))


def test_asking_less_often_costs_less_and_a_scenario_file_repeats_the_run(
    compared: Path, concerto_run: Any, tmp_path: Path
) -> None:
    rare = ("--set", "device.refresh.rule=every-n", "--set", "device.refresh.every=5")

    metrics = concerto_run(tmp_path / "rare", "--method", "duet", *rare)
    again = concerto_run(tmp_path / "again", "--scenario", str(tmp_path / "rare" / "scenario.yaml"))

    always = found(compared)["methods"]["duet"]["bytes_down_per_rec"]
    assert metrics["methods"]["duet"]["bytes_down_per_rec"] < always / 3
    assert comparable(again) == comparable(metrics)


def test_a_link_delays_every_refresh_and_changes_nothing_else(
    concerto_run: Any, tmp_path: Path
) -> None:
    options = ("--method", "duet", "--devices", "2", "--set", "replay.moments=200")

    near = concerto_run(tmp_path / "near", *options)
    far = concerto_run(tmp_path / "far", *options, "--set", "link=4g")

    assert comparable(far) == comparable(near)
    # Over a link each session has a connection of its own, which frames a message differently.
    counted = [
        payload(tmp_path / place).select(~cs.contains("framing")) for place in ("far", "near")
    ]
    assert counted[0].equals(counted[1])
    assert far["methods"]["duet"]["latency_ms"]["p50"] >= 70


TOGETHER = "finetune[finetune.learning.rows=8,finetune.learning.federation.norm=1.0]"


def test_learning_together_does_not_depend_on_the_number_of_processes(
    cache: Path, tmp_path: Path
) -> None:
    quick = ("--trunk", "sasrec", "--set", "train.epochs=1", "--set", "replay.moments=900")
    often = ("--set", "replay.round_events=180", "--set", "device.refresh.every=1")
    results = []
    for devices in ("1", "2"):
        out = tmp_path / devices
        done = command(
            "simulator.cli",
            *("compare", TOGETHER, "--log", "synthetic", *quick, *often),
            *("--devices", devices, "--out", str(out)),
            cache=cache,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        rankings = pl.read_parquet(next(out.glob("rankings-*")))
        scores = rankings.select("user", "seq", "source", "ask", "bytes_up", "scores")
        results.append((comparable(found(out)), payload(out), scores))
        account = pl.read_parquet_metadata(next(out.glob("exchanges-*")))
        counted = json.loads(account["contributions"])

    (one, paid, scores), (other, other_paid, other_scores) = results
    assert other == one
    assert other_paid.equals(paid)
    assert other_scores.equals(scores)
    assert counted["fresh"] > 100
    assert counted["releases"] >= 3
    up = paid.filter(purpose="contribute").select(pl.col("bytes_up") / pl.col("asks"))
    assert up["bytes_up"].max() <= 3 * 1024
    steps = pl.read_parquet(out / "learned.parquet")["steps"]
    assert steps.sum() == 900


# The newest vectors of ten neighbours; and rounds that are shorter than a period.
TREND = "cigar[cigar.others.seen=target,cigar.others.events=20,cigar.shared=20]"


@pytest.mark.parametrize(
    ("log", "entry"), [("synthetic-trend", TREND), ("synthetic-memory", "ecrec")]
)
def test_what_the_cloud_remembers_does_not_depend_on_the_number_of_processes(
    cache: Path, tmp_path: Path, log: str, entry: str
) -> None:
    options = ("--log", log, "--trunk", "pool", "--set", "train.epochs=1")
    quick = ("--set", "replay.round_events=120", "--set", "replay.moments=360")
    results = []
    for devices in ("1", "2", "4"):
        out = tmp_path / devices
        done = command(
            "simulator.cli",
            *("compare", entry, *options, *quick, "--devices", devices, "--out", str(out)),
            cache=cache,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        results.append((comparable(found(out)), payload(out)))

    (one, paid), *others = results
    assert all(other == one and bytes_.equals(paid) for other, bytes_ in others)
    assert paid["bytes_up"].sum() > 0
