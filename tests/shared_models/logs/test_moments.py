"""Moments: the right candidates, the same for everybody who asks."""

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shared_models.contract.errors import BadSetting
from shared_models.logs import moments as module
from shared_models.logs.moments import FULL, SESSION, Moments, replay_moments
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog
from shared_models.logs.source import Source


def test_a_shortlist_holds_the_item_taken_and_items_never_touched(toy_log: PreparedLog) -> None:
    moments = replay_moments(toy_log)
    candidates, known = moments.padded()

    for row in range(len(moments)):
        own = toy_log.events.filter(pl.col("user") == moments.user[row])
        shown = candidates[row][known[row]].tolist()
        taken = own.filter(pl.col("seq") == moments.seq[row])["item"][0]
        assert len(set(shown)) == len(shown)
        assert set(shown) & set(own["item"]) == {taken}


def test_each_event_with_a_history_is_a_moment_in_order_of_time(toy_log: PreparedLog) -> None:
    moments = replay_moments(toy_log)

    assert len(moments) == len(toy_log.test)
    assert (np.diff(moments.at) >= 0).all()
    assert moments.labels.sum() == len(moments)


def test_a_full_shortlist_has_a_hundred_candidates(toy_log: PreparedLog) -> None:
    moments = replay_moments(toy_log)

    # User 0 touched everything, so only what was taken is left to rank.
    assert set(moments.sizes[moments.user == 0]) == {1}
    assert set(moments.sizes[moments.user > 0]) == {100}


def test_what_was_taken_can_stand_anywhere(toy_log: PreparedLog) -> None:
    moments = replay_moments(toy_log)
    full = moments.sizes == 100

    places = [
        int(np.argmax(labels))
        for labels, is_full in zip(
            np.split(moments.labels, np.cumsum(moments.sizes)[:-1]), full, strict=True
        )
        if is_full
    ]

    assert len(set(places)) > len(places) / 2


def test_candidates_depend_on_the_data_seed_alone(toy_log: PreparedLog) -> None:
    same, other = replay_moments(toy_log), replay_moments(toy_log, data_seed=1)

    np.testing.assert_array_equal(same.candidates, replay_moments(toy_log).candidates)
    assert (same.candidates != other.candidates).any()


def test_a_part_of_the_moments_is_the_same_as_in_the_whole(toy_log: PreparedLog) -> None:
    whole = replay_moments(toy_log)

    part = whole[3:7]

    ends = np.cumsum(whole.sizes)
    np.testing.assert_array_equal(part.candidates, whole.candidates[ends[2] : ends[6]])
    np.testing.assert_array_equal(part.user, whole.user[3:7])


def test_negatives_are_uniform(tmp_path: Path) -> None:
    rows = {"user": 0, "item": list(range(400)) * 3, "at": np.arange(1200.0)}
    light = {"user": 1, "item": [0, 1] * 300, "at": np.arange(600.0)}
    frame = pl.concat([pl.DataFrame(rows), pl.DataFrame(light)])
    log = prepare(Source("wide", frame), "user-tail", tmp_path / "log")

    moments = replay_moments(log)

    own = np.repeat(moments.user == 1, moments.sizes) & ~moments.labels
    counts = np.bincount(moments.candidates[own], minlength=401)[3:]
    assert counts.sum() == 99 * 120
    assert counts.min() > 0.3 * counts.mean()
    assert counts.max() < 2.2 * counts.mean()


def test_the_full_catalogue_shows_everything(toy_log: PreparedLog) -> None:
    moments = replay_moments(toy_log, FULL)

    assert set(moments.sizes) == {toy_log.items}
    assert moments.labels.sum() == len(moments)


def test_too_many_scores_are_refused_with_advice(
    toy_log: PreparedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_SCORES", 10)

    with pytest.raises(BadSetting, match="shortlist-100"):
        replay_moments(toy_log, FULL)


def test_exposures_of_one_request_are_one_moment_with_their_labels(tmp_path: Path) -> None:
    shown = pl.DataFrame(
        {
            "user": np.repeat([1, 2], 60),
            "item": np.tile(np.arange(6), 20),
            "at": np.tile(np.repeat(np.arange(20.0), 3), 2),
            "label": np.tile([0.0, 1.0, 0.0], 40),
            "request": np.repeat(np.arange(40), 3),
        }
    )
    log = prepare(Source("shown", shown), "user-tail", tmp_path / "log")

    moments = replay_moments(log)

    assert log.task == "labelled-exposures"
    assert set(moments.sizes) == {3}
    assert moments.labels.reshape(-1, 3).tolist() == [[False, True, False]] * len(moments)


def test_requests_that_interleave_in_one_second_keep_their_own_rows(tmp_path: Path) -> None:
    rows = [
        {"user": 0, "item": 10 * request + place, "at": float(step), "label": float(request)}
        | {"request": 2 * step + request}
        for step in range(30)
        for place in range(3)
        for request in (0, 1)
    ]
    log = prepare(Source("shown", pl.DataFrame(rows)), "global-time", tmp_path / "log")

    moments = replay_moments(log)

    by_moment = moments.labels.reshape(-1, 3)
    assert (by_moment.all(axis=1) ^ ~by_moment.any(axis=1)).all()
    assert by_moment.all(axis=1).sum() == len(moments) / 2


def test_behaviour_is_no_moment_but_a_click_before_the_next_one(shown_log: PreparedLog) -> None:
    moments = replay_moments(shown_log)

    clicks = moments.clicks
    assert set(moments.sizes) == {3}
    assert set(clicks.user) == {0, 1, 2, 3, 4}
    assert (np.diff(clicks.at) >= 0).all()
    later = [int((moments.at < at).sum()) for at in clicks.at]
    assert clicks.place.tolist() == later
    known = shown_log.events.select("user", "seq", "item").rows()
    assert set(zip(clicks.user, clicks.seq, clicks.item, strict=True)) < set(known)


def test_every_event_of_a_part_is_shown_or_clicked_until_the_last_moment(
    shown_log: PreparedLog,
) -> None:
    moments = replay_moments(shown_log)

    last = moments.at[-1]
    events = shown_log.test.filter(pl.col("at") <= last)
    assert len(moments.candidates) + len(moments.clicks) == len(events)


def test_of_the_same_second_the_smaller_user_s_click_comes_first(tmp_path: Path) -> None:
    rows = [
        {"user": user, "item": user, "at": float(step), "label": 1}
        | {"request": step if user == 1 else None}
        for step in range(20)
        for user in range(3)
    ]
    log = prepare(Source("ties", pl.DataFrame(rows)), "global-time", tmp_path / "log")

    moments = replay_moments(log)

    assert moments.at.tolist() == [16.0, 17.0, 18.0, 19.0]
    assert moments.clicks.user.tolist() == [0, 2, 0, 2, 0, 2, 0]
    assert moments.clicks.place.tolist() == [0, 1, 1, 2, 2, 3, 3]


def test_a_part_of_the_moments_keeps_the_clicks_before_each(shown_log: PreparedLog) -> None:
    whole = replay_moments(shown_log)

    part = whole[3:7]

    places = whole.clicks.place
    inside = (places >= 3) & (places < 7)
    np.testing.assert_array_equal(part.clicks.item, whole.clicks.item[inside])
    np.testing.assert_array_equal(part.clicks.place, places[inside] - 3)


def session_log(folder: Path) -> PreparedLog:
    """Ten users over 400 items; two sessions a day, of three and of 25 events."""
    rng = np.random.default_rng(0)
    rows = [
        {"user": user, "item": int(rng.integers(1, 401)), "at": day * 86400.0 + start + 60 * step}
        for user in range(10)
        for day in range(10)
        for start, length in ((0, 3), (40_000, 25))
        for step in range(length)
    ]
    return prepare(Source("sessions", pl.DataFrame(rows)), "user-tail", folder / "log")


def test_a_session_shares_one_list_from_which_what_was_taken_goes(tmp_path: Path) -> None:
    log = session_log(tmp_path)
    moments = replay_moments(log, SESSION)
    candidates, known = moments.padded()

    for user in range(10):
        rows = np.flatnonzero(moments.user == user)
        shown = [set(candidates[row][known[row]].tolist()) for row in rows]
        touched = set(log.events.filter(pl.col("user") == user)["item"].to_list())
        for place, row in enumerate(rows):
            if moments.begins[row]:
                later = [
                    row,
                    *itertools.takewhile(lambda r: not moments.begins[r], rows[place + 1 :]),
                ]
                taken = set(candidates[later][moments_labels(moments, later, known)].tolist())
                assert len(shown[place]) == 100
                assert shown[place] & touched == taken
            else:
                gone = shown[place - 1] - shown[place]
                assert shown[place] <= shown[place - 1]
                assert len(gone) <= 1
                assert gone <= touched


def moments_labels(moments: Moments, rows: list[int], known: np.ndarray) -> np.ndarray:
    padded = np.zeros(known.shape, bool)
    padded[known] = moments.labels
    return padded[rows]


def test_a_session_ends_with_a_pause_or_when_it_is_long(tmp_path: Path) -> None:
    moments = replay_moments(session_log(tmp_path), SESSION)
    rows = np.flatnonzero(moments.user == 3)

    begins = np.flatnonzero(moments.begins[rows])

    lengths = np.diff([*begins, len(rows)]).tolist()
    assert lengths[:6] == [3, 20, 5, 3, 20, 5]


def test_session_lists_depend_on_the_data_seed_alone(tmp_path: Path) -> None:
    log = session_log(tmp_path)

    first, again, other = (replay_moments(log, SESSION, data_seed=seed) for seed in (0, 0, 1))

    assert (first.candidates == again.candidates).all()
    assert (first.candidates != other.candidates).any()
