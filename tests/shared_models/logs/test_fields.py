"""Features of users and items as numbers."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shared_models.logs.fields import (
    MOST_VALUES,
    Fields,
    _fields,
    item_fields,
    known_fields,
    user_fields,
)
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog
from shared_models.logs.source import Source

MANY = 400


def fields_of(**columns: Sequence[object]) -> Fields:
    found = _fields(pl.DataFrame(columns, strict=False))
    assert found is not None
    return found


def sets(found: Fields) -> list[set[int]]:
    """The value ids of each row, without the padding."""
    return [set(row) - {0} for row in found.ids.tolist()]


def test_numbers_of_many_values_fall_into_eight_bins_of_equal_counts() -> None:
    numbers = np.random.default_rng(0).permutation(MANY) ** 2

    found = fields_of(price=numbers)

    by_bin = found.ids[:, 0]
    assert found.spec.values == 8
    assert found.spec.most == 1
    assert np.bincount(by_bin)[1:].tolist() == [MANY / 8] * 8
    spans = sorted((numbers[by_bin == b].min(), numbers[by_bin == b].max()) for b in range(1, 9))
    assert all(low[1] < high[0] for low, high in pairwise(spans))


def test_numbers_that_are_written_as_text_are_numbers() -> None:
    found = fields_of(price=[str(number) for number in range(MANY)])

    assert found.spec.values == 8


def test_numbers_that_are_nearly_all_alike_have_fewer_bins() -> None:
    found = fields_of(price=[0.0] * (MANY - 100) + list(range(1, 101)))

    assert 2 <= found.spec.values < 8
    assert len(set(found.ids[: MANY - 100, 0].tolist())) == 1


def test_a_stray_word_among_numbers_has_no_value_and_many_make_words_of_all() -> None:
    def prices(stray: int) -> list[str]:
        return ["unknown"] * stray + [str(number) for number in range(MANY - stray)]

    found = fields_of(price=prices(MANY // 50), kind=["a", "b"] * (MANY // 2))
    few = sets(found)

    assert [len(row) for row in few] == [1] * (MANY // 50) + [2] * (MANY - MANY // 50)
    assert found.spec.values == 8 + 2
    assert _fields(pl.DataFrame({"price": prices(MANY // 10)})) is None


def test_a_few_values_stay_as_they_are() -> None:
    found = fields_of(kind=["b", "a", "b", "c"], year=[1999, 2001, 1999, 1999])

    assert sets(found) == [{2, 4}, {1, 5}, {2, 4}, {3, 4}]
    assert (found.spec.values, found.spec.most) == (5, 2)


@pytest.mark.parametrize(("count", "bins"), [(MOST_VALUES, MOST_VALUES), (MOST_VALUES + 1, 8)])
def test_numbers_are_binned_where_there_are_too_many_values(count: int, bins: int) -> None:
    assert fields_of(number=[number % count for number in range(MANY)]).spec.values == bins


def test_one_value_may_stand_in_two_columns_and_means_two_things() -> None:
    found = fields_of(one=["a", "b"], two=["b", "a"])

    assert sets(found) == [{1, 4}, {2, 3}]


SEPARATORS = ["Comedy Drama", "Drama|Comedy", "Comedy, Drama", "Drama;Comedy", "  Drama   Comedy "]


def test_words_in_a_cell_are_values_of_their_own() -> None:
    # Enough different cells, or each would be a value as a whole.
    cells = [f"w{n % 9} w{(n * n) % 10} w{n // 9}" for n in range(90)]

    found = fields_of(genres=cells)

    names = sorted({word for cell in cells for word in cell.split()})
    number = {name: place for place, name in enumerate(names, start=1)}
    assert found.spec.values == len(names)
    assert sets(found) == [{number[word] for word in cell.split()} for cell in cells]


def test_words_are_parted_by_any_separator() -> None:
    spare = [f"w{n % 9} w{(n * n) % 10} w{n // 9}" for n in range(90)]

    found = sets(fields_of(genres=SEPARATORS + spare))

    assert len(found[0]) == 2
    assert all(row == found[0] for row in found[: len(SEPARATORS)])


def test_a_column_that_says_one_thing_or_too_much_is_left_out() -> None:
    titles = [f"title number {n} of word{n}" for n in range(MANY)]

    useless = pl.DataFrame({"title": titles, "same": ["x"] * MANY, "none": [None] * MANY})

    assert _fields(useless) is None
    assert _fields(useless.drop("title", "same")) is None
    assert _fields(pl.DataFrame({"item": []}).drop("item")) is None
    beside = useless.with_columns(kind=pl.Series(["a", "b"] * (MANY // 2)))
    found = _fields(beside)
    assert found is not None
    assert found.spec.values == 2


def test_a_cell_without_anything_is_padding() -> None:
    numbers = [None, *range(MANY - 1)]
    words = [None, *(f"w{n % 9} w{(n * n) % 10} w{n % 7}" for n in range(MANY - 1))]

    found = fields_of(kind=[None, *["a", "b", "a"] * (MANY // 3)][:MANY], number=numbers)
    worded = fields_of(words=words)

    assert found.ids[0].tolist() == [0, 0]
    assert (found.ids[1] > 0).all()
    assert (worded.ids[0] == 0).all()


def test_ids_run_from_1_to_the_number_of_values() -> None:
    found = fields_of(kind=["a", "b", "c", "a"], flag=[True, False, True, True])

    assert set(found.ids.ravel().tolist()) == set(range(1, found.spec.values + 1))
    assert found.ids.dtype == np.int64


@pytest.fixture
def log(tmp_path: Path) -> PreparedLog:
    events = pl.DataFrame(
        {
            "user": [f"u{user}" for user in range(4) for _ in range(10)],
            "item": [100 + (3 * user + step) % 12 for user in range(4) for step in range(10)],
            "at": [float(10 * step + user) for user in range(4) for step in range(10)],
        }
    )
    items = pl.DataFrame({"raw": [str(n) for n in range(100, 112)], "kind": ["even", "odd"] * 6})
    users = pl.DataFrame({"raw": [f"u{user}" for user in (3, 1, 0, 2)], "age": [30, 10, 0, 20]})
    return prepare(Source("toy", events, items, users), "user-tail", tmp_path / "log")


def test_a_log_s_features_stand_in_the_order_of_its_numbers(log: PreparedLog) -> None:
    items, users = item_fields(log), user_fields(log)
    assert items is not None
    assert users is not None

    raw = log.item_table.sort("item")["raw"].cast(int).to_list()
    assert items.ids[0].tolist() == [0]
    assert items.ids[1:, 0].tolist() == [1 + number % 2 for number in raw]
    names = log.user_table.sort("user")["raw"].to_list()
    assert users.ids[:, 0].tolist() == [1 + int(name[1:]) for name in names]
    assert known_fields(log).items == items.spec
    assert known_fields(log).users == users.spec


def test_a_log_without_features_has_none(toy_log: PreparedLog) -> None:
    found = known_fields(toy_log)

    assert (found.items, found.users) == (None, None)
    assert item_fields(toy_log) is None
