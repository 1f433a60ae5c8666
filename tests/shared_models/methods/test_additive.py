"""The capacity control is as large as DUET, and adds where DUET generates."""

import numpy as np
import pytest
import torch

from shared_models.catalog import load_method, resolve
from shared_models.method import Uplinks
from shared_models.methods.additive.network import SLOT, AdditiveNetwork
from shared_models.methods.duet.network import DuetNetwork

ITEMS = 30


def network(name: str, trunk: str) -> torch.nn.Module:
    method = load_method(name, resolve(name, ITEMS, trunk, {name: {}}))
    built = method.build(seed=0)
    assert isinstance(built, AdditiveNetwork | DuetNetwork)
    return built


def count(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize("trunk", ["sasrec", "gru4rec", "din"])
def test_it_has_as_many_parameters_as_duet(trunk: str) -> None:
    additive, duet = network("additive", trunk), network("duet", trunk)

    assert count(additive.encoder) == count(duet.encoder)
    assert count(additive.static) == pytest.approx(count(duet.writer), rel=0.002)


def test_only_the_first_bias_differs_between_users() -> None:
    method = load_method("additive", resolve("additive", ITEMS, "sasrec", {}))
    model = method.build(seed=0).eval()

    slots = method.personalize(model, Uplinks(np.array([[1, 2, 3], [4, 5, 6]]))).slots

    assert set(slots) == {SLOT}
    assert not np.allclose(*slots[SLOT])
