"""The notebook example of the documentation gives the figures of the run."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_the_example_reproduces_the_figures(
    compared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/report.md").read_text(), re.DOTALL
    )

    exec(example.replace("runs/demo", str(compared)), {})  # noqa: S102 - our own documentation

    found = re.findall(
        r"^(duet), seed \d: AUC (\S+), (\S+) B down", capsys.readouterr().out, re.MULTILINE
    )
    duet = json.loads((compared / "metrics.json").read_text())["methods"]["duet"]
    mean = sum(float(auc) for _, auc, _ in found) / len(found)
    assert mean == pytest.approx(duet["auc"]["mean"], abs=1e-4)
    assert [down for *_, down in found] == [f"{duet['bytes_down_per_rec']:,.0f}"] * 2
