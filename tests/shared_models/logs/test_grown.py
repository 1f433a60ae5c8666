"""A log with what was uploaded: the cut moves on, and nothing is learnt twice."""

from pathlib import Path

import polars as pl
import pytest

from shared_models.contract.errors import BadSetting
from shared_models.logs.grown import grown
from shared_models.logs.prepared import PreparedLog, open_log


def told(log: PreparedLog, count: int) -> pl.DataFrame:
    """The first ``count`` events of each user's test part, as a journal has them."""
    first = log.test.sort("user", "seq").group_by("user", maintain_order=True).head(count)
    return first.select(pl.col("user").cast(pl.Int64), pl.col("item").cast(pl.Int64), "at")


def rows(frame: pl.DataFrame) -> list[tuple[float, ...]]:
    return sorted(frame.select("user", "seq", "item", "at").rows())


def test_everything_that_was_told_is_in_the_log_as_if_it_had_always_been(
    toy_log: PreparedLog, tmp_path: Path
) -> None:
    log = grown(toy_log, told(toy_log, 1000), tmp_path / "grown")

    assert rows(log.events) == rows(toy_log.events)
    assert len(log.test) == 0
    assert open_log(log.folder).hash == log.hash != toy_log.hash


def test_the_newest_events_of_each_user_validate_as_many_as_before(
    toy_log: PreparedLog, tmp_path: Path
) -> None:
    log = grown(toy_log, told(toy_log, 2), tmp_path / "grown")

    def validating(of: PreparedLog) -> dict[int, int]:
        counts = of.validation.group_by("user").len()
        return dict(counts.sort("user").iter_rows())

    assert validating(log) == validating(toy_log)
    last_trained = log.train.group_by("user").agg(pl.col("seq").max())
    first_validating = log.validation.group_by("user").agg(first=pl.col("seq").min())
    both = last_trained.join(first_validating, on="user")
    assert (both["seq"] < both["first"]).all()
    moved = len(log.train) - len(toy_log.train)
    assert moved == len(told(toy_log, 2)) > 0


def test_a_user_of_whom_nothing_came_stays_as_they_were(
    toy_log: PreparedLog, tmp_path: Path
) -> None:
    silent = 3

    log = grown(toy_log, told(toy_log, 2).filter(pl.col("user") != silent), tmp_path / "grown")

    for part in ("train", "validation"):
        before, after = getattr(toy_log, part), getattr(log, part)
        assert rows(after.filter(user=silent)) == rows(before.filter(user=silent))


def test_exposures_are_refused(shown_log: PreparedLog, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="holds exposures"):
        grown(shown_log, told(shown_log, 1), tmp_path / "grown")
