"""Lives out of rows that repeat themselves: what is known before a row is what the row says."""

from dataclasses import dataclass

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from shared_models.logs.tables.lives import Lives, overlap

LONGEST = 5
SCHEMA = {"user": pl.Int64, "item": pl.Int64, "label": pl.Int64, "history": pl.List(pl.Int64)}
ITEM = st.integers(1, 4)
ANY_ROWS = st.lists(
    st.tuples(st.integers(0, 2), ITEM, st.integers(0, 1), st.lists(ITEM, max_size=LONGEST)),
    max_size=25,
)
Row = tuple[int, int, int, list[int]]


@dataclass(frozen=True)
class Step:
    """A user takes some items by herself and is then shown one."""

    user: int
    taken: list[int]
    item: int
    label: int


STEPS = st.lists(
    st.builds(Step, st.integers(0, 2), st.lists(ITEM, max_size=4), ITEM, st.integers(0, 1)),
    max_size=25,
)


def consistent_rows(steps: list[Step]) -> tuple[list[Row], list[list[int]]]:
    """What a careful producer writes, and each user's true history before each row."""
    true: dict[int, list[int]] = {}
    rows, histories = [], []
    for step in steps:
        life = true.setdefault(step.user, [])
        life += step.taken
        rows.append((step.user, step.item, step.label, life[-LONGEST:]))
        histories.append(list(life))
        life += [step.item] * step.label
    return rows, histories


def events_of(rows: list[Row]) -> pl.DataFrame:
    return Lives(LONGEST).add(pl.DataFrame(rows, SCHEMA, orient="row"), 1)


def seen_before(events: pl.DataFrame) -> list[list[int]]:
    """For each row, what its user took before the request that it belongs to."""
    histories, by_request = [], {}
    taken: dict[int, list[int]] = {}
    for user, item, _, label, request, _ in events.rows():
        if request is not None:
            by_request.setdefault(request, list(taken.get(user, [])))
            histories.append(by_request[request])
        taken.setdefault(user, []).extend([item] * label)
    return histories


@given(ANY_ROWS)
def test_whatever_rows_say_is_what_was_taken_last_before_them(rows: list[Row]) -> None:
    for (*_, history), seen in zip(rows, seen_before(events_of(rows)), strict=True):
        assert seen[len(seen) - len(history) :] == history


@given(STEPS)
def test_before_consistent_rows_nothing_else_is_known(steps: list[Step]) -> None:
    rows, _ = consistent_rows(steps)

    for (*_, history), seen in zip(rows, seen_before(events_of(rows)), strict=True):
        assert seen[-LONGEST:] == history


@given(STEPS)
def test_histories_that_fit_are_rebuilt_without_repetition(steps: list[Step]) -> None:
    rows, true = consistent_rows([step for step in steps if step.user == 0][:4])
    fits = [len(history) <= LONGEST for history in true]

    for fit, history, seen in zip(fits, true, seen_before(events_of(rows)), strict=True):
        assert not fit or seen == history


@given(ANY_ROWS, st.integers(0, 25))
def test_blocks_do_not_matter(rows: list[Row], cut: int) -> None:
    lives = Lives(LONGEST)
    frame = pl.DataFrame(rows, SCHEMA, orient="row")

    parts = [lives.add(frame[:cut], 1), lives.add(frame[cut:], 1 + len(frame[:cut]))]

    assert cut == 0 or pl.concat(parts).equals(events_of(rows))


@given(ANY_ROWS)
def test_time_is_the_order_of_rows(rows: list[Row]) -> None:
    events = events_of(rows)
    shown = events.filter(pl.col("request").is_not_null())

    assert events["at"].is_sorted()
    assert events["at"].n_unique() == len(events)
    assert shown["at"].to_list() == shown["row"].to_list() == list(range(1, len(rows) + 1))
    assert shown.select("user", "item", "label").rows() == [row[:3] for row in rows]


def test_a_pair_of_rows_with_one_history_is_one_request() -> None:
    events = events_of([(0, 1, 1, [3]), (0, 2, 0, [3]), (0, 2, 0, [3, 1]), (1, 2, 0, [3, 1])])

    shown = events.filter(pl.col("request").is_not_null())
    assert shown["request"].to_list() == [1, 1, 3, 4]
    assert events.filter(pl.col("request").is_null())["user"].to_list() == [0, 1, 1]


def test_no_request_goes_on_in_the_next_table() -> None:
    lives, rows = Lives(LONGEST), pl.DataFrame([(0, 1, 0, [3])], SCHEMA, orient="row")

    first, second = lives.add(rows, 1), lives.add(rows, 1)

    assert first["request"].to_list() == [None, 1]
    assert second["request"].to_list() == [2]


def test_the_longest_overlap_counts() -> None:
    assert overlap([1, 2, 1, 2], [1, 2, 1, 2, 3]) == 4
    assert overlap([9, 1, 2, 1], [1, 2, 1, 5]) == 3
    assert overlap([1, 2, 3], [4, 5]) == 0
    assert overlap([], [4]) == 0
