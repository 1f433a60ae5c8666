"""Classifiers of nodes through real processes: trained, served, replayed on devices' graphs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shared_models.logs.graphs.write import write_graph
from tests.cloud_server.graphs.conftest import clustered
from tests.e2e.conftest import command

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]
SMALL = ("graph.devices=5", "graph.strengths=[0,1]", "graph.steps=2", "train.epochs=20")
QUICK = ("ggcn.scale=none", "ggcn.dropout=0.1")
Play = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("graphs") / "clustered"
    write_graph(clustered(), place)
    return place


@pytest.fixture(scope="module")
def play(prefix: Path, cache: Path) -> Play:
    """``concerto run --prefix`` to its end; gives metrics.json."""

    def run(out: Path, *options: str) -> dict[str, Any]:
        settings = [part for each in (*SMALL, *QUICK) for part in ("--set", each)]
        place = ("--prefix", str(prefix), "--out", str(out))
        done = command(
            "simulator.cli", "run", "--method", "ggcn", *place, *settings, *options, cache=cache
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
        return found

    return run


def test_devices_classify_their_own_graphs_whatever_process_they_live_in(
    play: Play, tmp_path: Path
) -> None:
    two = play(tmp_path / "two", "--devices", "2")
    one = play(tmp_path / "one", "--devices", "1")

    assert two["by_shift"] == one["by_shift"]
    assert two["by_step"] == one["by_step"]
    assert [row["strength"] for row in two["by_shift"]] == [0, 1]
    assert all(row["accuracy"]["mean"] > 0.7 for row in two["by_shift"])
    # A bundle for each process, and not a byte besides.
    bytes_two, bytes_one = two["bytes"]["ggcn"], one["bytes"]["ggcn"]
    assert bytes_two["bundles_down"] == pytest.approx(2 * bytes_one["bundles_down"], rel=0.01)
    assert bytes_two["payload_up"] == bytes_two["payload_down"] == 0
    ledger = pl.read_parquet(tmp_path / "two" / "ledger.parquet")
    assert set(ledger["purpose"]) == {"bundle"}
    assert (tmp_path / "two" / "report.html").is_file()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--method", "ggcn", "--log", "synthetic"), "ggcn classifies the nodes of a graph"),
        (("--method", "base", "--prefix", "{prefix}"), "base ranks items and reads no graph"),
        (("--method", "ggcn", "--prefix", "nowhere/x"), "nowhere/x-G.json: no such file"),
        (("--method", "ggcn", "--prefix", "{prefix}", "--log", "synthetic"), "'log'"),
        (("--method", "ggcn", "--prefix", "{prefix}", "--set", "graph.hop=1"), "graph.hops"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(
    options: tuple[str, ...], told: str, prefix: Path, cache: Path, tmp_path: Path
) -> None:
    given = [option.format(prefix=prefix) for option in options]

    done = command("simulator.cli", "run", *given, "--out", str(tmp_path / "run"), cache=cache)

    assert done.returncode == 2, done.stderr[-2000:]
    assert told in done.stderr
    assert not (tmp_path / "run").exists()
