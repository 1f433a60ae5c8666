"""The tally puts every report in its place, and refuses what does not fit."""

import numpy as np
import pytest

from protos.v1.simulation_pb2 import (
    DECISION_SCORE,
    SOURCE_DEFAULT_WEIGHTS,
    SOURCE_STALE_OVERLAY,
    Rankings,
)
from shared_models.contract.errors import RunFailed
from simulator.tally import Tally
from tests.simulator.conftest import make_moments, make_rankings


def report(tally: Tally, *moments: int, scores: float = 0.5, first: int = 0) -> Rankings:
    count = sum(tally._moments.sizes[moment + first] for moment in moments)
    filled = np.full(count, scores, "<f4")
    return make_rankings(moments, filled, source=SOURCE_STALE_OVERLAY, overlay_age=3)


@pytest.fixture
def tally() -> Tally:
    return Tally(make_moments(10))


def test_scores_lie_where_their_moments_are_whatever_the_order(tally: Tally) -> None:
    tally.enter(4, report(tally, 3, 1, first=4))

    for moment in range(10):
        filled = np.isfinite(tally.scores[tally._places(np.array([moment]))])
        assert filled.all() if moment in (5, 7) else not filled.any()
    assert np.flatnonzero(tally.ranked).tolist() == [5, 7]


def test_the_age_of_an_overlay_is_told_only_where_there_was_one(tally: Tally) -> None:
    without = report(tally, 0)
    without.sources[0] = SOURCE_DEFAULT_WEIGHTS
    tally.enter(0, without)
    tally.enter(0, report(tally, 1))

    frame = tally.frame()

    assert frame["source"].to_list() == ["default-weights", "stale-overlay"]
    assert frame["overlay_age"].to_list() == [None, 3]


def test_what_asked_the_cloud_is_counted(tally: Tally) -> None:
    silent = report(tally, 0)
    silent.decisions[0] = DECISION_SCORE
    tally.enter(0, silent)
    tally.enter(0, report(tally, 1, 2))

    assert tally.asked == 2
    assert tally.frame()["decision"].to_list() == ["score", "refresh", "refresh"]


def test_a_moment_is_ranked_once(tally: Tally) -> None:
    tally.enter(0, report(tally, 2))

    with pytest.raises(RunFailed, match="twice"):
        tally.enter(0, report(tally, 2))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(tally: Tally, number: float) -> None:
    with pytest.raises(RunFailed, match="not finite"):
        tally.enter(0, report(tally, 0, scores=number))


def test_a_report_that_does_not_fit_is_refused(tally: Tally) -> None:
    short = report(tally, 0)
    short.scores = short.scores[:-4]
    unknown = report(tally, 0)
    unknown.moments[0] = 10
    lacking = report(tally, 0)
    del lacking.seconds[:]

    for wrong, words in ((short, "scores for"), (unknown, "not in the log"), (lacking, "facts")):
        with pytest.raises(RunFailed, match=words):
            tally.enter(0, wrong)
    assert not tally.ranked.any()
