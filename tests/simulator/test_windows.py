"""What devices know before the replay."""

from pathlib import Path

import numpy as np
import polars as pl

from shared_models.logs.moments import Moments, replay_moments
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog, write_log
from simulator.windows import initial_windows
from tests.shared_models.logs.conftest import make_shown_source

EVENTS = 20


def make_log(folder: Path, *, labelled: bool = False) -> PreparedLog:
    """User u takes u+1, u+2, ...; the first twelve events train, two validate, six test."""
    rows = [(user, user + seq + 1, float(seq), seq) for user in range(2) for seq in range(EVENTS)]
    schema = {"user": pl.Int32, "item": pl.Int32, "at": pl.Float64, "seq": pl.Int32}
    events = pl.DataFrame(rows, schema=schema, orient="row")
    if labelled:
        events = events.with_columns(
            label=(pl.col("seq") % 2).cast(pl.Float32), request=pl.col("seq").cast(pl.Int64)
        )
    cuts = {"train": (0, 12), "validation": (12, 14), "test": (14, EVENTS)}
    parts = {
        name: events.filter(pl.col("seq").is_between(*cut, closed="left"))
        for name, cut in cuts.items()
    }
    items = pl.DataFrame({"item": range(1, 201), "raw": [str(i) for i in range(1, 201)]})
    users = pl.DataFrame({"user": [0, 1], "raw": ["a", "b"]})
    about = {
        "name": "counting",
        "task": "labelled-exposures" if labelled else "next-item",
        "split": "user-tail",
        "leaks": "nothing",
    }
    return write_log(folder, {**parts, "items": items, "users": users}, about)


def test_a_window_ends_just_before_the_first_moment(tmp_path: Path) -> None:
    log = make_log(tmp_path / "log")

    windows = initial_windows(log, replay_moments(log), 3)

    assert windows == {0: [12, 13, 14], 1: [13, 14, 15]}


def test_users_whom_nobody_plays_get_no_window(tmp_path: Path) -> None:
    log = make_log(tmp_path / "log")

    windows = initial_windows(log, replay_moments(log)[:1], 3)

    assert list(windows) == [0]


def test_an_event_without_a_moment_of_its_own_is_known_from_the_start(tmp_path: Path) -> None:
    log = make_log(tmp_path / "log")
    moments = replay_moments(log)
    later = moments.seq > 14
    rows = np.repeat(later, moments.sizes)
    some = Moments(
        moments.user[later],
        moments.at[later],
        moments.seq[later],
        moments.sizes[later],
        moments.candidates[rows],
        moments.labels[rows],
        moments.begins[later],
    )

    windows = initial_windows(log, some, 2)

    assert windows == {0: [14, 15], 1: [15, 16]}


def test_only_what_was_taken_counts_where_a_log_holds_exposures(tmp_path: Path) -> None:
    log = make_log(tmp_path / "log", labelled=True)

    windows = initial_windows(log, replay_moments(log), 3)

    assert windows[0] == [10, 12, 14]


def test_a_window_ends_before_the_first_click_and_who_only_clicks_has_one(tmp_path: Path) -> None:
    log = prepare(make_shown_source(), "user-tail", tmp_path / "log")
    moments = replay_moments(log)

    windows = initial_windows(log, moments, 3)

    names = log.item_table["raw"]
    raw = {user: [names[item - 1] for item in items] for user, items in windows.items()}
    # At step 15 user 0 took the first of the three items that were shown; user 4 is shown none.
    assert raw == {
        0: ["0", "1", "100"],
        1: ["10", "11", "100"],
        2: ["20", "21", "100"],
        3: ["30", "31", "100"],
        4: ["41", "40", "41"],
    }
