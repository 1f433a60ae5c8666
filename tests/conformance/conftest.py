"""Every method over every trunk, small and built once."""

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import nn

from shared_models.catalog import load_method, method_names, resolve
from shared_models.contract.bundle import Bundle
from shared_models.export import compile_bundle
from shared_models.method import Batch, Learns, Method, Personalizes, RanksInCloud

ITEMS = 50
TRUNKS = ("sasrec", "gru4rec", "din")


@dataclass(frozen=True)
class Case:
    """A method over a trunk, with an untrained model and the bundle made of it."""

    method: Method
    model: nn.Module
    bundle: Bundle


def make_method(name: str, trunk: str) -> Method:
    return load_method(name, resolve(name, ITEMS, trunk, {}))


def pattern_batch(rows: int = 64, history: int = 40, seed: int = 0) -> Batch:
    """Histories whose next item is the last one plus one: something that can be learnt."""
    rng = torch.Generator().manual_seed(seed)
    start = torch.randint(0, ITEMS, (rows, 1), generator=rng)
    history_BH = (start + torch.arange(history)) % ITEMS + 1
    known = torch.randint(0, history + 1, (rows, 1), generator=rng)
    history_BH = torch.where(torch.arange(history) >= history - known, history_BH, 0)
    target = (start + history) % ITEMS + 1
    wrong = torch.randint(1, ITEMS + 1, (rows, 4), generator=rng)
    labels = torch.zeros(rows, 5)
    labels[:, 0] = 1
    return Batch(history_BH, torch.cat([target, wrong], 1), labels)


def train_steps(method: Method, model: nn.Module, steps: int) -> list[list[float]]:
    """Losses of ``steps`` Adam steps in each of the method's stages."""
    losses: list[list[float]] = []
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    for stage in method.stages():
        optimiser = torch.optim.Adam(list(stage.trainable(model)), lr=5e-3)
        model.train()
        losses.append([])
        for step in range(steps):
            loss = stage.loss(model, pattern_batch(seed=step), rng)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses[-1].append(loss.item())
    model.eval()
    return losses


@cache
def make_case(name: str, trunk: str) -> Case:
    method = make_method(name, trunk)
    model = method.build(seed=0)
    train_steps(method, model, 20)
    return Case(method, model, compile_bundle(method, model, log_hash="none"))


def cases_of(capability: type) -> list[tuple[str, str]]:
    return [
        (m, t) for m in method_names() for t in TRUNKS if isinstance(make_method(m, t), capability)
    ]


@pytest.fixture(params=cases_of(Method), ids="-".join)
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(*request.param)


@pytest.fixture(
    params=[(m, t) for m, t in cases_of(Method) if make_method(m, t).stages()], ids="-".join
)
def trained_case(request: pytest.FixtureRequest) -> Case:
    """Methods with something to train."""
    return make_case(*request.param)


@pytest.fixture(params=cases_of(Personalizes), ids="-".join)
def personal_case(request: pytest.FixtureRequest) -> Case:
    return make_case(*request.param)


@pytest.fixture(params=cases_of(RanksInCloud), ids="-".join)
def ranking_case(request: pytest.FixtureRequest) -> Case:
    return make_case(*request.param)


@pytest.fixture(params=cases_of(Learns), ids="-".join)
def learning_case(request: pytest.FixtureRequest) -> Case:
    return make_case(*request.param)
