"""A cloud that trains on while devices rank: told release by release, the same whoever plays."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared_models.contract.bundle import BundleStore
from simulator.report import load_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
CONTINUAL = (
    *("--method", "again: base[base.uploads=true,replay.retrain=2]"),
    *("--method", "remembers: ecrec[ecrec.long=20,replay.retrain=2]"),
    *("--trunk", "pool", "--set", "train.epochs=1"),
    *("--set", "replay.round_events=500", "--set", "replay.moments=2400"),
)


@pytest.fixture(scope="module")
def played(concerto_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "continual"
    concerto_run(out, *CONTINUAL, "--devices", "2")
    return out


def spans(folder: Path, entry: str) -> list[dict[str, Any]]:
    return json.loads((folder / "metrics.json").read_text())["methods"][entry]["by_release"]


def test_each_release_is_another_bundle_with_its_accuracy_and_its_bytes(played: Path) -> None:
    for entry in ("again", "remembers"):
        found = spans(played, entry)

        assert [(row["at_least"], row["at_most"]) for row in found] == [
            (0, 999),
            (1000, 1999),
            (2000, 2399),
        ]
        assert [row["release"] for row in found] == [0, 1, 2]
        for row in found:
            assert row["auc"]["low"] < row["auc"]["mean"] < row["auc"]["high"]
            assert row["bytes_up_per_rec"] > 0
            assert row["bundle_bytes"] > 1000


def test_devices_ranked_with_the_last_release(played: Path) -> None:
    ranked = load_run(played).rankings.filter(entry="remembers")
    last = BundleStore(played / "journals" / "remembers-0" / "bundles").released()["ecrec"]
    first = json.loads((played / "metrics.json").read_text())["methods"]["remembers"]["bundles"]

    assert last not in first
    # After each switch a device has no memory until its next refresh, which comes at once.
    assert set(ranked["source"]) == {"overlay"}


def test_releases_do_not_depend_on_the_number_of_processes(
    played: Path, concerto_run: Any, tmp_path: Path
) -> None:
    concerto_run(tmp_path / "alone", *CONTINUAL, "--devices", "1")

    for entry in ("again", "remembers"):
        assert spans(tmp_path / "alone", entry) == spans(played, entry)
