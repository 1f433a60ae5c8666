"""What runs leave behind, as tests compare it."""

import json
from pathlib import Path
from typing import Any

import polars as pl


def found(out: Path, name: str = "metrics.json") -> dict[str, Any]:
    """A JSON file of a run."""
    return dict(json.loads((out / name).read_text()))


def comparable(metrics: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on the number of processes or on how fast they were."""
    methods = {
        name: {k: v for k, v in about.items() if k not in ("latency_ms", "modelled_ms")}
        for name, about in metrics["methods"].items()
    }
    return {**metrics, "methods": methods, "measured": None}


def payload(out: Path) -> pl.DataFrame:
    """Payload by entry, seed, user, purpose and direction, bundles and control left out."""
    return pl.read_parquet(out / "ledger.parquet").filter(
        ~pl.col("purpose").is_in(["bundle", "control"])
    )
