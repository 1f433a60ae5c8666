"""Tables that train as they are looked up: the rule in float64, row by row, is the truth."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared_models.layers.interaction import DotInteraction
from shared_models.layers.rules import RowwiseAdagrad
from shared_models.layers.tables import Bags, Tables

ROWS, WIDTH = (5, 1, 9), 4
GOLDEN = Path(__file__).parents[2] / "golden" / "dlrm.json"
BAG = st.lists(st.integers(0, 8), max_size=4)


def bags_of(drawn: list[list[list[int]]]) -> list[list[list[int]]]:
    """A bag of each table for each row, with ids that are there."""
    return [
        [[number % count for number in row[table]] for row in drawn]
        for table, count in enumerate(ROWS)
    ]


def slowly(
    weight_RD: np.ndarray[Any, Any], bags: list[list[list[int]]], grad_BTD: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """A step of row-wise Adagrad, one row at a time."""
    weight, first = weight_RD.astype(np.float64), np.cumsum([0, *ROWS])
    total: dict[int, np.ndarray[Any, Any]] = {}
    for table, of_table in enumerate(bags):
        for row, bag in enumerate(of_table):
            for number in bag:
                place = int(first[table] + number)
                grad = grad_BTD[row, table].astype(np.float64)
                total[place] = total.get(place, 0) + grad
    for place, grad in total.items():
        mean = (grad**2).mean()
        weight[place] -= 0.1 * grad / (np.sqrt(mean) + 1e-10)
    return weight


@given(st.lists(st.tuples(BAG, BAG, BAG), min_size=1, max_size=6))
def test_a_step_is_that_of_a_slow_loop_whatever_repeats_and_whatever_is_empty(
    drawn: list[list[list[int]]],
) -> None:
    torch.manual_seed(0)
    tables, bags = Tables(ROWS, WIDTH), bags_of(drawn)
    before = tables.weight.detach().numpy().copy()
    grad_BTD = torch.randn(len(drawn), len(ROWS), WIDTH)

    sums_BTD = tables.trained(Bags.of(bags), RowwiseAdagrad(sum(ROWS), WIDTH, rate=0.1))
    sums_BTD.backward(grad_BTD)

    wanted = slowly(before, bags, grad_BTD.numpy())
    np.testing.assert_allclose(tables.weight.detach().numpy(), wanted, atol=1e-5)
    assert tables.weight.grad is None


def test_rows_keep_their_own_pace_over_many_steps() -> None:
    torch.manual_seed(0)
    tables, rule = Tables((2,), 3), RowwiseAdagrad(2, 3, rate=0.1)
    often, rarely = torch.tensor([[0]]), torch.tensor([[1]])

    moves = []
    for ids in (often, often, often, often, rarely):
        before = tables.weight.detach().clone()
        tables.trained(Bags.single(ids), rule).sum().backward()
        moves.append(float((tables.weight.detach() - before).abs().max()))

    np.testing.assert_allclose(moves, [0.1, 0.1 / 2**0.5, 0.1 / 3**0.5, 0.05, 0.1], rtol=1e-5)


def test_training_looks_up_what_serving_looks_up() -> None:
    tables = Tables(ROWS, WIDTH)
    ids_BT = torch.tensor([[4, 0, 8], [0, 0, 3]])

    trained = tables.trained(Bags.single(ids_BT), RowwiseAdagrad(sum(ROWS), WIDTH))

    assert torch.equal(trained, tables(Bags.single(ids_BT)))
    first = torch.stack([tables.weight[4], tables.weight[5], tables.weight[14]])
    assert torch.equal(trained[0], first)


def test_an_id_that_no_row_has_is_told_with_its_table() -> None:
    with pytest.raises(IndexError, match="id 5 is not in table 0 of 5 rows"):
        Tables(ROWS, WIDTH)(Bags.single(torch.tensor([[1, 0, 2], [5, 0, 2]])))


@pytest.mark.parametrize("itself", [False, True])
def test_products_come_in_the_order_of_the_lower_triangle(itself: bool) -> None:
    features = torch.tensor([[[1.0, 0.0], [2.0, 1.0], [3.0, 5.0]]])

    products = DotInteraction(3, itself=itself)(features)

    without, with_itself = [2.0, 3.0, 11.0], [1.0, 2.0, 5.0, 3.0, 11.0, 34.0]
    assert products.tolist() == [with_itself if itself else without]
    assert DotInteraction(3, itself=itself).width == len(products[0])


def test_products_are_those_of_the_published_example() -> None:
    example = json.loads(GOLDEN.read_text())["interaction_example"]
    features = torch.tensor([[example["dense"], *example["embeddings"]]])

    products = DotInteraction(features.shape[1])(features)

    wanted = torch.tensor([example["dot_products"]])
    assert (products - wanted).abs().max() <= example["tolerance"]
