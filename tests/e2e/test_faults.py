"""Replays under faults: they come to their end, and the cloud keeps its word."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shared_models.contract.security import Role
from simulator.metrics_model import Metrics
from tests.e2e.conftest import command
from tests.identities import Authority

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]
REMEMBERS = ("--method", "remembers: ecrec[ecrec.long=20]", "--trunk", "pool")
SHORT = (
    *("--set", "replay.round_events=150", "--set", "replay.moments=1200"),
    # Before each ranking, so that no fault meets devices which want nothing.
    *("--set", 'device.refresh={"rule":"always"}'),
)
EVERYTHING = """
seed: 5
faults:
  - {kind: kill-cloud, round: 2}
  - {kind: kill-devices, round: 3}
  - {kind: corrupt-bundle, round: 4}
  - {kind: poison-release, how: nan-weights, round: 5}
  - {kind: clock-jump, round: 6, seconds: -86400}
  - {kind: cut-link, round: 6, seconds: 5}
  - {kind: slow-link, round: 7, seconds: 2}
"""
TUNNEL = """
faults:
  - {kind: cut-link, round: 2, seconds: 30}
  - {kind: slow-link, round: 4, seconds: 20, kbit: 256, delay_ms: 500}
"""
PLACES = """
faults:
  - kind: kill-cloud
    failpoints: [memory.seeding, journal.before-commit:3, memory.after-commit:2]
"""
GUARDED = """
faults:
  - {kind: kill-devices, round: 2}
  - {kind: poison-release, how: nan-weights, round: 4}
"""


def played(out: Path) -> dict[str, Any]:
    """What metrics.json says of the only run's faults."""
    text = (out / "metrics.json").read_text()
    Metrics.model_validate_json(text, strict=True)
    (told,) = json.loads(text)["measured"]["faults"].values()
    return dict(told)


@pytest.fixture
def under(concerto_run: Any, tmp_path: Path) -> Any:
    """A run of ecrec under the faults of a text; gives its folder."""

    def run(text: str, *options: str) -> Path:
        (tmp_path / "faults.yaml").write_text(text)
        faults = ("--faults", str(tmp_path / "faults.yaml"), "--devices", "2")
        concerto_run(tmp_path / "out", *REMEMBERS, *SHORT, *faults, *options)
        return tmp_path / "out"

    return run


def test_a_replay_stands_up_to_every_kind_of_fault_and_tells_of_each(
    under: Any, cache: Path
) -> None:
    out = under(EVERYTHING)

    told = played(out)
    kinds = Counter(seen["kind"] for seen in told["played"])
    assert set(kinds.values()) == {1}
    assert len(kinds) == 7
    assert told["stale"] + told["retries"] > 0
    acknowledged = {each["what"]: each["acknowledged"] for each in told["checked"]}
    assert acknowledged["events"] > 500
    assert acknowledged["vectors"] > 100
    (poison,) = [seen for seen in told["played"] if seen["kind"] == "poison-release"]
    assert "offered to 2 processes, refused by all (bundle-refused)" in poison["what"]
    assert "Faults were played on purpose." in (out / "report.html").read_text()
    checked = command("simulator.cli", "check", "history", str(out), cache=cache)
    assert checked.returncode == 0, checked.stdout


def test_with_the_link_cut_for_30_s_and_nearly_so_for_20_no_recommendation_fails(
    under: Any,
) -> None:
    out = under(TUNNEL)

    metrics = json.loads((out / "metrics.json").read_text())["methods"]["remembers"]
    assert metrics["complete"]
    assert metrics["recommendations"] == 1200
    assert metrics["sources"]["stale-overlay"] + metrics["sources"]["default-weights"] > 0
    assert metrics["sources"]["overlay"] > 0
    assert played(out)["retries"] > 0


def test_a_cloud_dies_at_the_places_that_are_named_and_nothing_is_lost(under: Any) -> None:
    told = played(under(PLACES, "--set", "replay.round_events=50"))

    assert [seen["what"] for seen in told["played"]] == [
        f"died at {place}"
        for place in ("memory.seeding", "journal.before-commit:3", "memory.after-commit:2")
    ]
    assert sum(each["acknowledged"] for each in told["checked"]) > 500


def test_a_history_alone_changes_nothing_but_that_it_is_there(
    concerto_run: Any, tmp_path: Path, cache: Path
) -> None:
    plain = concerto_run(tmp_path / "plain", *REMEMBERS, *SHORT)
    written = concerto_run(tmp_path / "written", *REMEMBERS, *SHORT, "--history")

    for name in ("auc", "gauc", "ndcg@10"):
        assert written["methods"]["remembers"][name] == plain["methods"]["remembers"][name]
    checked = command("simulator.cli", "check", "history", str(tmp_path / "written"), cache=cache)
    assert checked.returncode == 0
    assert checked.stdout.splitlines()[1].split()[1:] == ["events", "1,200", "0", "0", "0"]


def test_over_mutual_tls_a_replay_stands_up_to_faults_as_well(under: Any, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "tls")
    for role in Role:
        authority.add(role, role)

    told = played(under(GUARDED, "--tls", str(authority.folder)))

    assert {seen["kind"] for seen in told["played"]} == {"kill-devices", "poison-release"}
    assert sum(each["acknowledged"] for each in told["checked"]) > 500


def test_an_unknown_failpoint_ends_the_run_with_the_nearest_name(
    cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "faults.yaml").write_text(PLACES.replace("memory.seeding", "memory.seding"))

    done = command(
        "simulator.cli",
        *("run", *REMEMBERS, "--log", "synthetic", "--set", "train.epochs=3", "--seed", "0"),
        *("--faults", str(tmp_path / "faults.yaml"), "--out", str(tmp_path / "out")),
        cache=cache,
    )

    assert done.returncode == 2
    assert "unknown failpoint 'memory.seding': did you mean 'memory.seeding'?" in done.stderr
