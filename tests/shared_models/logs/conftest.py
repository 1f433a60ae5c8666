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


def make_shown_source(users: int = 4, steps: int = 20) -> Source:
    """Users who click twice at each step, then take one of three items that are shown; one more
    only clicks."""
    clicks = [
        {"user": user, "item": 10 * user + click, "at": 100.0 * step + 10 * click + user}
        | {"label": 1, "request": None}
        for step in range(steps)
        for user in range(users + 1)
        for click in range(2)
    ]
    shown = [
        {"user": user, "item": 100 + place, "at": 100.0 * step + 50 + user}
        | {"label": int(place == step % 3), "request": users * step + user}
        for step in range(steps)
        for user in range(users)
        for place in range(3)
    ]
    schema = {"user": int, "item": int, "at": float, "label": int, "request": int}
    return Source("shown", pl.DataFrame(clicks + shown, schema=schema))


@pytest.fixture
def shown_log(tmp_path: Path) -> PreparedLog:
    return prepare(make_shown_source(), "user-tail", tmp_path / "shown")


@pytest.fixture
def toy_log(tmp_path: Path) -> PreparedLog:
    return prepare(make_source(), "user-tail", tmp_path / "toy")
