"""What is written of an experiment: metrics.json, the ledger, and the table that people read."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from shared_models.contract.errors import RunFailed
from shared_models.logs.moments import Moments
from simulator.cache import Resolved, Trained
from simulator.coordinator import Coordinator
from simulator.framing import EXCHANGE_AMONG_OTHERS
from simulator.replay import Replay
from simulator.results import Results
from simulator.rounds import Rules
from simulator.runs import Run
from simulator.scenario import Scenario
from simulator.summary import _pairs, table
from simulator.wire import CloudAccount
from tests.simulator.conftest import MOMENTS, USERS, FakeDevices, make_bundle, make_moments

Crowd = Callable[..., list[FakeDevices]]
WINDOWS = {user: [user + 1] for user in range(USERS)}
METRICS = ("auc", "gauc", "uauc", "hr@10", "ndcg@10", "mrr")


async def played(
    crowd: Crowd,
    method: str,
    seed: int,
    count: int,
    *,
    offset: int = 0,
    dies_in_round: int | None = None,
) -> Run:
    bundle = make_bundle()
    # Another seed, or offset, plays other windows, so that its scores differ.
    windows = {user: [*items, seed + offset + 1] for user, items in WINDOWS.items()}
    replay = Replay(make_moments(), windows, bundle, Rules(round_events=20))
    resolved = Resolved(method, "sasrec", (), "key", "export", {})
    run = Run(method, resolved, seed, Trained(Path("bundles"), bundle), replay)
    async with Coordinator() as coordinator:
        crowd(coordinator.address, count, bundle, dies_in_round=dies_in_round)
        links = await coordinator.gathered(count, 10)
        try:
            run.accounts = await replay.play(links)
        except RunFailed:
            assert dies_in_round is not None
    return run


async def written(crowd: Crowd, out: Path, count: int) -> Results:
    scenario = Scenario(methods=("base", "duet"), seeds=(0, 1), out=out)
    results = Results(scenario, "a protocol", USERS)
    for method, offset in (("base", 0), ("duet", 10)):
        for seed in (0, 1):
            results.add(await played(crowd, method, seed, count, offset=offset), {1: 99})
    return results


def metrics_json(out: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "metrics.json").read_text())
    return found


async def test_metrics_json_holds_what_scripts_rely_on(crowd: Crowd, tmp_path: Path) -> None:
    await written(crowd, tmp_path, 2)

    found = json.loads((tmp_path / "metrics.json").read_text())

    assert found["protocol"] == "a protocol"
    assert list(found["methods"]) == ["base", "duet"]
    for method in found["methods"].values():
        for name in METRICS:
            assert set(method[name]) == {"mean", "sd", "low", "high"}
            assert method[name]["low"] <= method[name]["mean"] <= method[name]["high"]
        assert set(method["latency_ms"]) == {"p50", "p95", "split"}
        assert method["sources"]["overlay"] == method["recommendations"] == 2 * MOMENTS
        assert method["bytes_up_per_rec"] == 10 * USERS / MOMENTS
        assert method["bytes_down_per_rec"] > 0
        assert method["complete"]
        assert method["state_bytes_per_device"] == pytest.approx(100 + (USERS - 1) / 2)
    assert set(found["differences"]["duet-base"]["auc"]) == {"mean", "low", "high"}
    assert found["totals"]["recommendations"] == 4 * MOMENTS
    assert found["totals"]["bytes"]["refresh"]["up"] == 4 * 10 * USERS
    assert "bundle" not in found["totals"]["bytes"]
    for spent in found["measured"]["learning_ms"].values():
        assert spent == pytest.approx({"mean": 3.0, "p95": 3.0})


async def test_a_run_whose_cloud_left_no_account_says_so_and_makes_nothing_up(
    crowd: Crowd, tmp_path: Path
) -> None:
    await written(crowd, tmp_path, 2)

    found = json.loads((tmp_path / "metrics.json").read_text())

    assert "killed" in found["measured"]["ledgers"]["base (sasrec, seed 0)"]
    split = found["methods"]["base"]["latency_ms"]["split"]
    assert split.pop("device") == pytest.approx(1.0)
    assert split == {"queue": None, "cloud": None, "transfer": None}
    assert found["measured"]["framing"]["base"]["kernel"] == {"up": None, "down": None}
    columns = pl.read_parquet(tmp_path / "rankings-base-0.parquet").columns
    place = columns.index("cloud_seconds")
    assert columns[place + 1 : place + 3] == ["queue_seconds", "compute_seconds"]


async def test_the_clouds_account_splits_latency_and_the_kernels_tells_framing(
    crowd: Crowd, tmp_path: Path
) -> None:
    results = Results(Scenario(methods=("base",), out=tmp_path), "a protocol", USERS)
    run = await played(crowd, "base", 0, 1)
    about = run.replay.tally.frame()
    exchanges = about.select("user", "ask", purpose=pl.lit("refresh")).with_columns(
        queue_seconds=pl.lit(0.0002, pl.Float32), compute_seconds=pl.lit(0.0003, pl.Float32)
    )
    run.cloud = CloudAccount(exchanges, {})
    done = run.accounts[0].done
    done.connections.add(local="a:1", peer="b:2", bytes_up=1200, bytes_down=6000)
    done.streams.broken = 1

    results.add(run, {})

    found = json.loads((tmp_path / "metrics.json").read_text())
    split = found["methods"]["base"]["latency_ms"]["split"]
    expected = {"device": 1.0, "queue": 0.2, "cloud": 0.3, "transfer": 0.5}
    assert split == pytest.approx(expected, rel=1e-4)
    framing = found["measured"]["framing"]["base"]
    assert framing["kernel"] == {"up": 1200 / MOMENTS, "down": 6000 / MOMENTS}
    assert framing["framing"] == {"up": None, "down": None}, "a stream broke"
    assert found["measured"]["ledgers"]["base (sasrec, seed 0)"] == "1 streams broke on the way"


async def test_framing_of_single_users_is_modelled_and_named_so(
    crowd: Crowd, tmp_path: Path
) -> None:
    await written(crowd, tmp_path, 2)

    ledger = pl.read_parquet(tmp_path / "ledger.parquet")

    for_bundles = ledger.filter(purpose="bundle")
    assert for_bundles["framing_up_modelled"].null_count() == len(for_bundles)
    refreshes = ledger.filter(purpose="refresh")
    assert refreshes["framing_up_modelled"].to_list() == (
        (refreshes["asks"] * EXCHANGE_AMONG_OTHERS.up).to_list()
    )


async def test_bundle_bytes_stand_apart_because_each_process_fetches_its_own(
    crowd: Crowd, tmp_path: Path
) -> None:
    await written(crowd, tmp_path, 3)

    found = json.loads((tmp_path / "metrics.json").read_text())

    assert found["measured"]["bytes"]["bundle"]["down"] == 4 * 3 * 1000


async def test_files_do_not_depend_on_the_number_of_processes(crowd: Crowd, tmp_path: Path) -> None:
    texts, ledgers, rankings = [], [], []
    for count in (1, 4):
        out = tmp_path / str(count)
        await written(crowd, out, count)
        found = json.loads((out / "metrics.json").read_text())
        found.pop("measured")
        texts.append(json.dumps(found))
        ledgers.append(pl.read_parquet(out / "ledger.parquet").filter(pl.col("user").is_not_null()))
        rankings.append(pl.read_parquet(out / "rankings-duet-1.parquet"))

    assert texts[0] == texts[1]
    assert ledgers[0].equals(ledgers[1])
    assert rankings[0].equals(rankings[1])


async def test_every_moment_is_written_with_its_rank_and_provenance(
    crowd: Crowd, tmp_path: Path, moments: Moments
) -> None:
    await written(crowd, tmp_path, 2)

    frame = pl.read_parquet(tmp_path / "rankings-base-0.parquet")

    assert frame["user"].to_list() == moments.user.tolist()
    assert frame["scores"].list.len().to_list() == moments.sizes.tolist()
    assert frame["source"].unique().to_list() == ["overlay"]
    by_hand = []
    for scores, taken in zip(frame["scores"], labels_by_moment(moments), strict=True):
        own = scores[taken]
        by_hand.append(1 + sum(score > own for score in scores))
    assert frame["rank"].to_list() == by_hand


def labels_by_moment(moments: Moments) -> list[int]:
    """Where in each moment's candidates the taken one stands."""
    found, start = [], 0
    for length in moments.sizes.tolist():
        found.append(moments.labels[start : start + length].tolist().index(True))
        start += length
    return found


async def test_a_run_that_was_cut_short_leaves_a_readable_report(
    crowd: Crowd, tmp_path: Path
) -> None:
    results = Results(Scenario(methods=("base",), out=tmp_path), "a protocol", USERS)

    results.add(await played(crowd, "base", 0, 2, dies_in_round=3), {1: 99})

    base = json.loads((tmp_path / "metrics.json").read_text())["methods"]["base"]
    assert not base["complete"]
    assert 0 < base["recommendations"] < MOMENTS
    assert 0 <= base["auc"]["mean"] <= 1
    assert base["bytes_up_per_rec"] is None, "traffic is only known at a run's end"
    assert base["state_bytes_per_device"] is None
    results.report()
    assert "This run was cut short" in (tmp_path / "report.html").read_text()


async def test_a_difference_is_taken_over_the_seeds_that_both_have_played(
    crowd: Crowd, tmp_path: Path
) -> None:
    results = Results(Scenario(seeds=(0, 1), out=tmp_path), "a protocol", USERS)
    results.add(await played(crowd, "base", 0, 1), {1: 99})
    results.add(await played(crowd, "duet", 0, 1, offset=10), {1: 99})
    alone = results.summary["differences"]["duet-base"]

    results.add(await played(crowd, "base", 1, 1), {1: 99})
    results.add(await played(crowd, "duet", 1, 1, offset=10, dies_in_round=3), {1: 99})

    assert results.summary["methods"]["base"]["seeds"] == [0, 1]
    assert results.summary["differences"]["duet-base"] == alone


async def test_until_the_entry_to_compare_with_is_played_the_first_one_stands_for_it(
    crowd: Crowd, tmp_path: Path
) -> None:
    methods, against = ("base", "duet", "finetune"), ("finetune",)
    scenario = Scenario(methods=methods, against=against, out=tmp_path)
    results = Results(scenario, "a protocol", USERS)

    results.add(await played(crowd, "base", 0, 1), {1: 99})
    results.add(await played(crowd, "duet", 0, 1, offset=10), {1: 99})

    assert list(results.summary["differences"]) == ["duet-base"]


async def test_a_run_that_ranked_nothing_writes_nothing(crowd: Crowd, tmp_path: Path) -> None:
    results = Results(Scenario(out=tmp_path / "out"), "a protocol", USERS)

    results.add(await played(crowd, "base", 0, 1, dies_in_round=1), {1: 99})
    results.report()

    assert not (tmp_path / "out").exists()


async def test_runs_of_an_earlier_experiment_in_the_folder_are_none_of_this_one(
    crowd: Crowd, tmp_path: Path
) -> None:
    scenario = Scenario(methods=("base",), seeds=(0, 1), out=tmp_path)
    for seeds in ((0, 1), (0,)):
        results = Results(scenario, "a protocol", USERS)
        for seed in seeds:
            (tmp_path / f"exchanges-base-{seed}.parquet").touch()  # as its cloud does
            results.add(await played(crowd, "base", seed, 1), {1: 99})

    assert [file.name for file in tmp_path.glob("rankings-*")] == ["rankings-base-0.parquet"]
    assert [file.name for file in tmp_path.glob("exchanges-*")] == ["exchanges-base-0.parquet"]


async def test_results_are_replaced_file_by_file_and_leave_no_drafts(
    crowd: Crowd, tmp_path: Path
) -> None:
    (tmp_path / "metrics.json").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")

    await written(crowd, tmp_path, 1)

    assert "methods" in metrics_json(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


async def test_the_environment_names_every_process_and_what_it_loaded(
    crowd: Crowd, tmp_path: Path
) -> None:
    await written(crowd, tmp_path, 3)

    found = json.loads((tmp_path / "environment.json").read_text())

    assert [device["pid"] for device in found["devices"]] == [0, 1, 2]
    assert found["devices"][0]["modules"] == ["numpy"]
    assert found["devices"][0]["provider"] == "FakeProvider"
    assert "simulator" in found["simulator"]["modules"]
    assert found["clouds"] == [{"pid": 1, "resident_bytes": 99}]


async def test_the_table_shows_each_method_and_what_it_gains(crowd: Crowd, tmp_path: Path) -> None:
    results = await written(crowd, tmp_path, 1)
    console = Console(width=200, record=True, file=None, quiet=False)

    with console.capture() as capture:
        console.print(table(results.summary))

    text = capture.get()
    for word in (
        "base",
        "duet",
        "duet - base",
        "AUC",
        "GAUC",
        "HR@10",
        "NDCG@10",
        "p95 ms",
        "learn ms",
        "state",
    ):
        assert word in text


async def test_what_devices_observed_is_kept_for_the_journal_to_be_checked(
    crowd: Crowd, tmp_path: Path
) -> None:
    await written(crowd, tmp_path, 2)

    observed = pl.read_parquet(tmp_path / "observed.parquet")

    assert observed.filter(method="base", seed=0)["events"].sum() == MOMENTS + 2 * USERS


@pytest.mark.parametrize("name", ["scenario.yaml", "environment.json", "ledger.parquet"])
async def test_a_run_says_what_it_was(crowd: Crowd, tmp_path: Path, name: str) -> None:
    await written(crowd, tmp_path, 1)

    assert (tmp_path / name).stat().st_size > 0


def test_every_entry_stands_beside_the_first_or_beside_those_that_are_named() -> None:
    labels = ["base", "duet", "never"]

    assert list(_pairs(labels, ["base"])) == [("duet", "base"), ("never", "base")]
    assert list(_pairs(labels, ["base", "never"])) == [
        ("duet", "base"),
        ("never", "base"),
        ("duet", "never"),
    ]
    assert list(_pairs(["base"], ["gone"])) == []
