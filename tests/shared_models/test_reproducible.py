"""A row's result does not depend, to the bit, on how many share its batch."""

import pytest
import torch
from torch.nn import functional

import shared_models  # noqa: F401 - it asks MKL for it

SIZES = (8, 16, 24, 40, 64, 128)


@pytest.mark.parametrize("outputs", [32, 128])
def test_a_product_is_the_same_for_every_size_of_batch(outputs: int) -> None:
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(0)
    weight, row = torch.randn(outputs, 363, generator=rng), torch.randn(363, generator=rng)

    products = [functional.linear(row.repeat(size, 1), weight) for size in SIZES]

    assert torch.unique(torch.cat(products), dim=0).shape[0] == 1
