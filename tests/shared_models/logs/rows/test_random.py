"""Random rows: as many as were asked for, the same ones each time, within their tables."""

from pathlib import Path

import numpy as np
import pytest

from shared_models.contract.errors import BadSetting
from shared_models.logs.rows.prepare import open_or_draw
from shared_models.logs.rows.prepared import Bag, Rows
from shared_models.logs.rows.spec import RowsSpec

SPEC = RowsSpec(tables="50-2-300", lookups=4)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCERTO_CACHE", str(tmp_path))


def drawn(spec: RowsSpec, seed: int = 0, rows: int = 1000) -> Rows:
    return open_or_draw(rows, 3, spec, seed).read("train", 0)


def test_rows_are_as_many_as_asked_for_and_within_their_tables() -> None:
    rows = drawn(SPEC)

    assert len(rows) == 800
    assert rows.dense_RN.shape == (800, 3)
    assert 0 <= rows.dense_RN.min() < 0.1
    assert 0.9 < rows.dense_RN.max() <= 1
    assert set(rows.label_R.tolist()) == {0, 1}
    assert [int(bag.ids.max()) for bag in rows.bags] == [49, 1, 299]
    assert [set(bag.sizes_R.tolist()) for bag in rows.bags] == [{1, 2, 3, 4}, {1, 2}, {1, 2, 3, 4}]


def test_no_bag_holds_an_id_twice() -> None:
    bag = drawn(SPEC).bags[1]

    for row in range(800):
        ids, _ = bag.of(np.array([row]))
        assert len(set(ids.tolist())) == len(ids)


def test_labels_may_be_anything_between_and_bags_full() -> None:
    rows = drawn(RowsSpec(tables="5000", lookups=3, fixed=True, round_targets=False))

    assert len(set(rows.label_R.tolist())) > 700
    assert np.bincount(rows.bags[0].sizes_R).argmax() == 3


def test_the_same_seed_draws_the_same_rows_and_another_one_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, other = drawn(SPEC), drawn(SPEC, seed=1)
    monkeypatch.setenv("CONCERTO_CACHE", str(tmp_path / "another"))

    again = drawn(SPEC)

    assert np.array_equal(first.dense_RN, again.dense_RN)
    assert np.array_equal(first.bags[2].ids, again.bags[2].ids)
    assert not np.array_equal(first.dense_RN, other.dense_RN)


def test_one_row_is_too_few() -> None:
    with pytest.raises(BadSetting, match="draw two rows or more"):
        open_or_draw(1, 3, SPEC, 0)


def test_a_bag_gives_the_ids_of_any_rows_in_any_order() -> None:
    bag = Bag(np.array([7, 8, 9, 4, 5, 6]), np.array([2, 0, 1, 3]))

    ids, sizes = bag.of(np.array([3, 1, 0, 3]))

    assert ids.tolist() == [4, 5, 6, 7, 8, 4, 5, 6]
    assert sizes.tolist() == [3, 0, 2, 3]
