"""What the docs show is what runs: their examples give the figures of metrics.json."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def example(page: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    return str(code)


def test_the_ledgers_example_reproduces_the_table_from_parquet_alone(
    compared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = json.loads((compared / "metrics.json").read_text())["methods"]["duet"]
    found: dict[str, Any] = {}
    monkeypatch.chdir(compared)

    exec(example("ledger.md"), found)  # noqa: S102 - our own page

    lines = example("ledger.md").splitlines()
    assert len([line for line in lines if line and not line.startswith("import")]) == 10
    assert found["auc"] == pytest.approx(metrics["auc"]["mean"], rel=1e-9)
    assert found["hit_rate"] == pytest.approx(metrics["hr@10"]["mean"], rel=1e-9)
    assert found["up"] == metrics["bytes_up_per_rec"]
    assert found["down"] == metrics["bytes_down_per_rec"]
    for name in ("p50", "p95"):
        assert found[name] == pytest.approx(metrics["latency_ms"][name], rel=1e-5)
