"""Several entries over the same moments: what they cost and what they lose."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import SMALL, command
from tests.e2e.test_loop import comparable, payload

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]
ENTRIES = (
    "duet",
    "latent",
    "generator-on-device",
    "on-change: duet[device.refresh.rule=on-change]",
    "learnt: duet[device.refresh.rule=learnt,device.refresh.share=0.3]",
    "random: duet[device.refresh.rule=random,device.refresh.share=0.3]",
    "thrifty: duet[device.refresh.budget=400]",
)
SHORT = ("--set", "replay.moments=1500")


def compare(out: Path, cache: Path, *options: str) -> dict[str, Any]:
    arguments = ("compare", *ENTRIES, *SMALL, *SHORT, "--out", str(out), *options)
    done = command("simulator.cli", *arguments, cache=cache)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return dict(json.loads((out / "metrics.json").read_text()))


@pytest.fixture(scope="module")
def played(cache: Path, compared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compare") / "two"
    compare(out, cache, "--devices", "2")
    return out


@pytest.fixture(scope="module")
def methods(played: Path) -> dict[str, Any]:
    return dict(json.loads((played / "metrics.json").read_text())["methods"])


def test_a_code_instead_of_weights_costs_a_fortieth_and_no_accuracy(methods: Any) -> None:
    weights, code = methods["duet"], methods["latent"]

    assert code["bytes_down_per_rec"] <= 120
    assert weights["bytes_down_per_rec"] > 35 * code["bytes_down_per_rec"]
    assert code["auc"]["mean"] == pytest.approx(weights["auc"]["mean"], abs=2e-4)


def test_a_generator_on_the_device_ranks_alike_without_traffic(methods: Any) -> None:
    alone = methods["generator-on-device"]

    assert alone["bytes_down_per_rec"] == alone["bytes_up_per_rec"] == alone["asks_per_rec"] == 0
    assert alone["auc"]["mean"] == pytest.approx(methods["duet"]["auc"]["mean"], abs=2e-4)


@pytest.mark.parametrize("rule", ["on-change", "learnt", "random", "thrifty"])
def test_a_rule_that_asks_less_often_asks_at_all(methods: Any, rule: str) -> None:
    assert 0.05 < methods[rule]["asks_per_rec"] < 0.7
    assert methods[rule]["bytes_down_per_rec"] < 0.7 * methods["duet"]["bytes_down_per_rec"]


def test_entries_do_not_depend_on_the_number_of_processes(
    played: Path, cache: Path, tmp_path: Path
) -> None:
    again = compare(tmp_path / "one", cache, "--devices", "1")

    assert comparable(again) == comparable(json.loads((played / "metrics.json").read_text()))
    assert payload(tmp_path / "one").equals(payload(played))
