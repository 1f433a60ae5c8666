"""What was measured beside what is known, as a table and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

from shared_models.contract.errors import RunFailed
from simulator.published.bands import Band, Check

FILE: Final = "published.json"
Measured = Mapping[str, Sequence[float]]
"""Each figure of a check, seed by seed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A figure that was measured, beside its band."""

    check: str
    band: Band
    by_seed: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(self.by_seed))

    @property
    def holds(self) -> bool:
        """Whether the mean lies in its band."""
        return self.band.holds(self.mean)


def judge(name: str, check: Check, measured: Measured) -> list[Finding]:
    """A finding for each band of ``check``.

    Raises:
        RunFailed: a figure was not measured; no verdict is not a good one.
    """
    missing = [band.figure for band in check.bands if not measured.get(band.figure)]
    if missing:
        raise RunFailed(f"{name} measured no {', '.join(missing)}")
    return [Finding(name, band, tuple(measured[band.figure])) for band in check.bands]


def all_hold(findings: Sequence[Finding]) -> bool:
    """Whether every band holds."""
    return all(finding.holds for finding in findings)


def write(findings: Sequence[Finding], folder: Path) -> Path:
    """Write ``published.json``, whole or not at all."""
    rows = [{**_facts(finding), "holds": finding.holds} for finding in findings]
    content = {"holds": all_hold(findings), "findings": rows}
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{FILE}.draft"
    draft.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    return draft.replace(folder / FILE)


def table(findings: Sequence[Finding]) -> Table:
    """A row for each finding."""
    shown = Table("check", "figure", "mean", "by seed", "known", "band", "verdict", box=None)
    for finding in findings:
        shown.add_row(
            finding.check,
            finding.band.figure,
            f"{finding.mean:.4f}",
            " ".join(f"{value:.4f}" for value in finding.by_seed),
            finding.band.known,
            _ends(finding.band),
            "holds" if finding.holds else "FAILS",
        )
    return shown


def _facts(finding: Finding) -> dict[str, Any]:
    own = {"check": finding.check, "mean": finding.mean, "by_seed": finding.by_seed}
    return {**own, **asdict(finding.band)}


def _ends(band: Band) -> str:
    return f"{band.low:g} or more" if band.high is None else f"{band.low:g} to {band.high:g}"
