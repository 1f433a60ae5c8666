"""Neighbour lists: those of brute force, to the last tie."""

from fractions import Fraction
from math import log
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_models.config import NeighbourSpec
from shared_models.contract.errors import BadSetting
from shared_models.logs.fields import user_fields
from shared_models.logs.neighbours import listed, neighbours
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import NEIGHBOURS, PreparedLog
from shared_models.logs.source import Source
from tests.shared_models.logs.conftest import make_source

Sets = list[set[int]]


def log_of(sets: Sets) -> pl.DataFrame:
    pairs = [(user, item) for user, own in enumerate(sets) for item in sorted(own)]
    return pl.DataFrame(pairs, schema={"user": pl.Int32, "item": pl.Int32}, orient="row")


def brute_force(sets: Sets, count: int, most_users: int) -> list[list[int]]:
    """By the definition, every pair of users, in exact arithmetic."""
    holders: dict[int, int] = {}
    for item in (item for own in sets for item in own):
        holders[item] = holders.get(item, 0) + 1
    square = {
        item: round(1024 * log(len(sets) / held) ** 2)
        for item, held in holders.items()
        if held <= most_users
    }
    sets = [{item for item in own if square.get(item)} for own in sets]
    norms = [sum(square[item] for item in own) for own in sets]

    def ranked(user: int) -> list[int]:
        shares = [sum(square[item] for item in sets[user] & other) for other in sets]
        near = [other for other, share in enumerate(shares) if share and other != user]
        # The user's own norm is the same for all.
        near.sort(key=lambda other: (-Fraction(shares[other] ** 2, norms[other]), other))
        return (near + [-1] * count)[:count]

    return [ranked(user) for user in range(len(sets))]


def crowded(users: int, items: int) -> Sets:
    """Zipf's law; some users took the same as others, some nothing."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, items + 1)
    drawn = rng.choice(items, (users, 20), p=popularity / popularity.sum()) + 1
    sets = [set(own[: rng.integers(1, 20)].tolist()) for own in drawn]
    for twin in range(0, users, 10):
        sets[twin] = sets[(twin * 7 + 3) % users]
    sets[5::100] = [set()] * len(sets[5::100])
    return sets


@pytest.mark.parametrize(("count", "most_users"), [(64, 1000), (999, 50)])
def test_a_thousand_users_have_the_neighbours_of_brute_force(count: int, most_users: int) -> None:
    sets = crowded(1000, 300)

    found = neighbours(log_of(sets), 1000, 300, count, most_users=most_users)

    assert found.dtype == np.int64
    assert found.tolist() == brute_force(sets, count, most_users)


SETS = st.lists(st.sets(st.integers(1, 9), max_size=6), min_size=1, max_size=70)


@given(SETS, st.integers(1, 40), st.integers(1, 70))
def test_any_crowd_has_the_neighbours_of_brute_force(
    sets: Sets, count: int, most_users: int
) -> None:
    found = neighbours(log_of(sets), len(sets), 9, count, most_users=most_users)

    assert found.tolist() == brute_force(sets, count, most_users)


@pytest.mark.parametrize("wide_first", [True, False])
def test_unlike_sets_that_are_equally_similar_tie(wide_first: bool) -> None:
    # Every item has two holders; 3 shared ones of 9 are as similar as a single one.
    wide, narrow = {1, 2, 3, *range(10, 16)}, {4}
    pair = [wide, narrow] if wide_first else [narrow, wide]
    sets = [*pair, {1, 2, 3, 4}, set(range(10, 16))]

    found = neighbours(log_of(sets), len(sets), 30, 3)

    assert found[2].tolist() == [0, 1, -1]


def test_repetitions_and_the_order_of_a_log_change_nothing() -> None:
    events = log_of(crowded(200, 100))
    shuffled = pl.concat([events, events[::3]]).sample(fraction=1, shuffle=True, seed=1)

    found = neighbours(shuffled, 200, 100, 8)

    np.testing.assert_array_equal(found, neighbours(events, 200, 100, 8))


def test_what_was_shown_in_vain_is_nobodys_item() -> None:
    shown = pl.DataFrame(
        {"user": [0, 0, 1, 2, 2], "item": [1, 2, 1, 2, 3], "label": [1.0, 0.0, 1.0, 1.0, 1.0]}
    )

    found = neighbours(shown, 3, 3, 1)

    assert found.tolist() == [[1], [0], [-1]]


def test_a_blockbuster_says_less_than_a_rarity() -> None:
    sets = [{1, 2}, {1, 3}, {2, 4}, *({1, 10 + user} for user in range(20))]

    found = neighbours(log_of(sets), len(sets), 40, 1)

    assert found[0].tolist() == [2]


def test_neighbours_that_a_log_names_are_taken_as_it_names_them(tmp_path: Path) -> None:
    users = pl.DataFrame(
        {"raw": ["u0", "u1", "u2"], NEIGHBOURS: ["u2 nobody u1", None, "u2 u0 u1"]}
    )
    source = Source("named", make_source(users=3).events, users=users)
    log = prepare(source, "user-tail", tmp_path / "log")

    found = listed(log, NeighbourSpec(chosen="told", count=2))

    assert found.tolist() == [[2, 1], [-1, -1], [0, 1]]
    assert user_fields(log) is None


def test_a_log_that_names_no_neighbours_says_so(toy_log: PreparedLog) -> None:
    with pytest.raises(BadSetting, match="names no neighbours"):
        listed(toy_log, NeighbourSpec(chosen="told"))


def test_neighbours_by_chance_are_others_drawn_once(toy_log: PreparedLog) -> None:
    few, many = (NeighbourSpec(chosen="random", count=count) for count in (3, toy_log.users + 4))

    drawn = listed(toy_log, few)

    np.testing.assert_array_equal(drawn, listed(toy_log, few))
    assert drawn.shape == (toy_log.users, 3)
    assert len(np.unique(drawn)) > 3
    for user, own in enumerate(listed(toy_log, many).tolist()):
        assert sorted(own) == [-1] * 5 + [other for other in range(toy_log.users) if other != user]
