"""A training verb over rows that are no log."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloud_server.rows.origin import RowsOrigin, rows_job


def run_on_rows(
    verb: str,
    method: str,
    origin: RowsOrigin,
    settings: Mapping[str, Any],
    *,
    seed: int,
    processes: int,
    out: Path,
) -> None:
    """Do ``verb``; a wrong setting or table is told before torch is imported."""
    job = rows_job(method, origin, settings, seed, out)

    from cloud_server.rows import jobs

    jobs.VERBS[verb](job.model_copy(update={"processes": processes}))
