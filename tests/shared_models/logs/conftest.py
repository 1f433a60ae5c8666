"""Small logs on disk."""

from pathlib import Path

import polars as pl
import pytest

from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog
from shared_models.logs.source import Source


def make_source(users: int = 6, events: int = 20, items: int = 130) -> Source:
    """Users who walk through the catalogue, interleaved in time."""
    rows = [
        {"user": f"u{user}", "item": 1000 + (7 * user + step) % items, "at": 60.0 * step + user}
        for step in range(events)
        for user in range(users)
    ]
    spare = [{"user": "u0", "item": 1000 + item, "at": 0.0} for item in range(items)]
    return Source("toy", pl.DataFrame(rows + spare))


@pytest.fixture
def toy_log(tmp_path: Path) -> PreparedLog:
    return prepare(make_source(), "user-tail", tmp_path / "toy")
