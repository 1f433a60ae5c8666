"""What bad input gets: one clear line, exit code 2, nothing half-written, no stack trace."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from shared_models.contract.bundle import BundleStore
from tests.e2e.conftest import command

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
Case = Callable[[Path], list[str]]


def csv(text: str) -> Case:
    def options(folder: Path) -> list[str]:
        path = folder / "own.csv"
        path.write_text(text)
        return ["--log", str(path), "--user-col", "u", "--item-col", "i", "--time-col", "t"]

    return options


def junk(folder: Path) -> list[str]:
    path = folder / "junk.csv"
    path.write_bytes(b"\x00\xff\x80\xfe" + os.urandom(5000))
    return ["--log", str(path)]


def given(*options: str) -> Case:
    return lambda _: ["--log", "synthetic", *options]


ROWS = "".join(f"1,{step % 3},{step}\n" for step in range(30))
CASES: dict[str, tuple[Case, str]] = {
    "missing file": (lambda folder: ["--log", str(folder / "no.csv")], "no such file"),
    "missing column": (csv("u,i\n1,2\n"), "no column 't'"),
    "empty log": (csv("u,i,t\n"), "empty"),
    "nan time": (csv("u,i,t\n" + ROWS + "1,2,nan\n"), "row 32, column 't'"),
    "negative time": (csv("u,i,t\n1,2,-5\n" + ROWS), "row 2, column 't'"),
    "one item": (csv("u,i,t\n" + "".join(f"1,7,{t}\n" for t in range(30))), "one item"),
    "binary junk": (junk, "junk.csv"),
    "unknown log": (lambda _: ["--log", "movielens-100"], "did you mean 'movielens-100k'"),
    "unknown method": (given("--method", "duett"), "did you mean 'duet'"),
    "retraining on nothing": (
        given("--method", "base", "--set", "replay.retrain=2"),
        "base.uploads=true",
    ),
    "retraining on exposures": (
        lambda _: [
            *("--log", "synthetic-trend", "--method", "base"),
            *("--set", "base.uploads=true", "--set", "replay.retrain=2"),
        ],
        "holds exposures",
    ),
    "unknown trunk": (given("--trunk", "sasrek"), "did you mean 'sasrec'"),
    "unknown split": (given("--split", "user-tale"), "user-tail"),
    "unknown setting": (given("--set", "train.epoch=3"), "did you mean 'train.epochs'"),
    "unknown method setting": (
        given("--method", "duet", "--set", "duet.maxlag=3"),
        "did you mean 'duet.max_lag'",
    ),
    "unknown device setting": (given("--set", "device.in_flght=3"), "in_flight"),
    "wrong type": (given("--set", "train.epochs=many"), "train.epochs"),
    "senseless value": (given("--set", "replay.round_events=0"), "replay.round_events"),
    "zero devices": (given("--devices", "0"), "devices"),
    "no scenario": (given("--scenario", "no.yaml"), "no.yaml"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_with_bad_input_says_what_is_wrong_and_writes_nothing(
    name: str, cache: Path, tmp_path: Path
) -> None:
    options, says = CASES[name]
    out = tmp_path / "out"

    done = command("simulator.cli", "run", *options(tmp_path), "--out", str(out), cache=cache)

    assert done.returncode == 2, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stdout + done.stderr
    assert not out.exists()


def test_a_taken_port_is_told(compared: Path, cache: Path) -> None:
    bundles = served_bundles(cache)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        done = command(
            "cloud_server.cli", "serve", "--bundles", str(bundles), "--listen", address, cache=cache
        )

    assert done.returncode == 2
    assert f"{address} is taken" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_cloud_is_told(cache: Path) -> None:
    patience = ("--set", "connect_s=0.5")

    done = command("device_client.cli", "run", "--cloud", "127.0.0.1:9", *patience, cache=cache)

    assert done.returncode == 2
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bundle_of_another_version_is_told(compared: Path, cache: Path, tmp_path: Path) -> None:
    store = BundleStore(served_bundles(cache))
    folder = tmp_path / "old"
    shutil.copytree(served_bundles(cache) / next(iter(store.released().values())), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 0}))

    done = command("simulator.cli", "inspect", str(folder), cache=cache)

    assert done.returncode == 2
    assert "format 0" in done.stderr


def test_inspect_shows_what_a_device_would_know(compared: Path, cache: Path) -> None:
    done = command("simulator.cli", "inspect", str(served_bundles(cache)), cache=cache)

    assert done.returncode == 0
    assert "event_ids" in done.stdout
    assert "test vector: comes out" in done.stdout


@pytest.mark.parametrize("verb", ["evaluate", "infer", "export"])
def test_a_verb_without_a_trained_model_says_to_train_first(
    verb: str, cache: Path, tmp_path: Path
) -> None:
    options = ("--method", "duet", "--log", "synthetic", "--out", str(tmp_path / "nothing"))

    done = command("cloud_server.cli", verb, *options, cache=cache)

    assert done.returncode == 2
    assert "concerto-cloud train" in " ".join(done.stderr.split())
    assert not (tmp_path / "nothing").exists()


def test_a_table_is_refused_by_a_method_that_reads_none(cache: Path, tmp_path: Path) -> None:
    options = ("--method", "duet", "--table", "x.txt", "--out", str(tmp_path / "out"))

    done = command("cloud_server.cli", "train", *options, cache=cache)

    assert done.returncode == 2
    assert "--log" in done.stderr


def test_torch_alone_gives_the_metrics_that_devices_gave(compared: Path, cache: Path) -> None:
    model = next(
        p
        for p in trained_folders(cache)
        if any("duet" in BundleStore(each).released() for each in p.glob("bundles/*"))
    )
    options = ("--method", "duet", "--log", "synthetic", "--out", str(model))

    done = command("cloud_server.cli", "infer", *options, cache=cache)

    assert done.returncode == 0, done.stderr
    torch_alone = json.loads((model / "metrics.json").read_text())
    devices = json.loads((compared / "metrics.json").read_text())["methods"]["duet"]
    for name in ("auc", "gauc", "hr@10", "ndcg@10"):
        assert torch_alone[name]["mean"] == pytest.approx(devices[name]["mean"], abs=1e-4)
    assert (model / "predictions.parquet").is_file()


def trained_folders(cache: Path) -> list[Path]:
    return sorted(path.parent for path in (cache / "trained").glob("*/bundles"))


def served_bundles(cache: Path) -> Path:
    return next(trained_folders(cache)[0].glob("bundles/*"))
