"""Thresholds of a controller, by the share of the rankings that they let refresh."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from torch import Tensor, nn

from cloud_server.calibration import _lives, calibrated, thresholds
from shared_models.logs.prepare import prepare
from shared_models.logs.source import Source
from tests.shared_models.logs.conftest import make_shown_source

EVENTS = 60


def ages(users: int = 20) -> list[np.ndarray]:
    """An output that grows with the events since the refresh, a little differently each time."""
    rng = np.random.default_rng(0)
    event = np.arange(EVENTS)
    return [event[:, None] - event + rng.uniform(-0.3, 0.3, (EVENTS, EVENTS)) for _ in range(users)]


def refreshes(outputs: np.ndarray, threshold: float) -> int:
    last = count = 0
    for event in range(1, len(outputs)):
        if outputs[event, last] > threshold:
            last, count = event, count + 1
    return count


@pytest.mark.parametrize("share", [0.05, 0.1, 0.25, 0.5, 1.0])
def test_playing_with_a_threshold_refreshes_at_its_share(share: float) -> None:
    outputs = ages()

    threshold = thresholds(outputs)[round(share * 100) - 1]

    played = sum(refreshes(each, threshold) for each in ages(40)[20:])
    assert played / (20 * (EVENTS - 1)) == pytest.approx(share, abs=0.02)


def test_a_higher_share_has_a_lower_threshold() -> None:
    found = thresholds(ages())

    assert found.shape == (100,)
    assert (np.diff(found) <= 0).all()


class Watching(nn.Module):
    """A controller that remembers the newest items that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.newest: set[int] = set()

    def forward(self, now: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
        self.newest |= set(now.amax(1).tolist())
        return (now != then).sum(1).float(), now[:, -1].float()


def test_calibration_never_reads_the_test_part(tmp_path: Path) -> None:
    names = [f"{number:03}" for number in range(40)]
    events = pl.DataFrame({"user": "u", "item": names, "at": [float(name) for name in names]})
    log = prepare(Source("numbers", events), "user-tail", tmp_path / "log")
    controller = Watching()

    found = calibrated(controller, log, uplink=4)

    seen_before_validation_ends = log.validation["item"].max() - 1
    assert max(controller.newest) == seen_before_validation_ends
    assert set(found) == {"change", "gain"}
    assert np.isfinite([*found["change"], *found["gain"]]).all()


def test_with_nobody_to_play_thresholds_let_through_what_expects_anything() -> None:
    assert thresholds([]).tolist() == [0.0] * 100


def test_only_rankings_are_played_for_thresholds(tmp_path: Path) -> None:
    log = prepare(make_shown_source(), "user-tail", tmp_path / "log")

    windows = [life.windows_TG for life in _lives(log, uplink=2)]

    # Both items before each ranking were clicked by the user; after a ranking there is another.
    clicked = log.item_table.filter(pl.col("raw").cast(int) < 100)["item"]
    assert len(windows) == 4
    assert {item for each in windows for item in each.ravel().tolist()} <= set(clicked)


def test_thresholds_come_from_events_that_the_controller_was_not_trained_on(
    tmp_path: Path,
) -> None:
    names = [f"{number:03}" for number in range(200)]
    events = pl.DataFrame({"user": "u", "item": names, "at": [float(name) for name in names]})
    log = prepare(Source("numbers", events), "user-tail", tmp_path / "log")
    controller = Watching()

    calibrated(controller, log, uplink=1)

    assert min(controller.newest) >= log.train["item"].max()


def test_refreshes_that_a_session_begins_with_are_not_of_the_share() -> None:
    begins = [np.arange(EVENTS) % 10 == 0] * 20

    threshold = thresholds(ages(), begins)[19]

    asked = free = 0
    for outputs in ages(40)[20:]:
        last = 0
        for event in range(1, EVENTS):
            due = event % 10 == 0
            asks = not due and outputs[event, last] > threshold
            asked, free = asked + asks, free + (not due)
            last = event if asks or due else last
    assert asked / free == pytest.approx(0.2, abs=0.03)
