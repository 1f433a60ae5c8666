"""Groups of users by how much they do."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_models.config import UserGroups
from shared_models.contract.errors import BadSetting, UnknownName
from shared_models.logs.activity import by_activity, events_of_users, grouped
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog
from shared_models.logs.source import Source
from tests.shared_models.logs.conftest import make_source

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=60).map(np.array)


def test_users_are_cut_into_groups_of_equal_size_the_least_active_first() -> None:
    events_U = np.random.default_rng(0).permutation(100)

    groups_U = by_activity(events_U, 5)

    assert np.bincount(groups_U).tolist() == [0, 20, 20, 20, 20, 20]
    assert (groups_U == 1 + events_U // 20).all()


@given(COUNTS, st.integers(1, 8))
def test_who_does_more_is_in_no_lower_group_and_equals_stay_together(
    events_U: np.ndarray, groups: int
) -> None:
    groups_U = by_activity(events_U, groups)

    order = np.argsort(events_U, kind="stable")
    assert (np.diff(groups_U[order]) >= 0).all()
    assert len(set(zip(events_U.tolist(), groups_U.tolist(), strict=True))) == len(set(events_U))
    assert groups_U.min() == 1
    assert groups_U.max() <= groups


def test_only_the_training_part_counts(shown_log: PreparedLog) -> None:
    events_U = events_of_users(shown_log)

    assert events_U.sum() == len(shown_log.train)
    assert (grouped(shown_log, UserGroups(count=2)) == by_activity(events_U, 2)).all()


def featured(tmp_path: Path, values: list[str | None]) -> PreparedLog:
    users = pl.DataFrame({"raw": [f"u{user}" for user in range(6)], "kind": values})
    plain = make_source()
    return prepare(Source("toy", plain.events, None, users), "user-tail", tmp_path / "log")


def test_values_of_a_feature_are_groups_in_their_own_order(tmp_path: Path) -> None:
    log = featured(tmp_path, ["b", "a", "c", "a", "b", "b"])

    assert grouped(log, UserGroups(count=3, by="kind")).tolist() == [2, 1, 3, 1, 2, 2]


@pytest.mark.parametrize(
    ("values", "spec", "says"),
    [
        (["b", "a", "c", "a", "b", "b"], UserGroups(count=2, by="kind"), "3 values, .* 2 groups"),
        (["b", None, "c", None, "b", "b"], UserGroups(by="kind"), "2 users have no kind"),
    ],
)
def test_a_feature_that_is_no_group_is_refused(
    tmp_path: Path, values: list[str | None], spec: UserGroups, says: str
) -> None:
    log = featured(tmp_path, values)

    with pytest.raises(BadSetting, match=says):
        grouped(log, spec)


def test_a_feature_that_is_not_there_is_told(toy_log: PreparedLog) -> None:
    with pytest.raises(UnknownName, match="age"):
        grouped(toy_log, UserGroups(by="age"))
