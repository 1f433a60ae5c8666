"""Every method that ranks, and the ablations that are named, over every trunk; built once."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import onnxruntime
import pytest
import torch
from torch import nn

from shared_models.catalog import load_method, method_names, resolve
from shared_models.contract.bundle import Bundle
from shared_models.contract.features import FieldSpec, LogFields
from shared_models.contract.manifest import Task
from shared_models.export import compile_bundle
from shared_models.layers.embedding import settle
from shared_models.method import Batch, Facts, Learns, Method, Personalizes, RanksInCloud

ITEMS, VALUES, MOST, OTHERS, THEIRS, GROUPS, TOLD = 50, 6, 2, 3, 12, 5, 7
FIELDS = LogFields(FieldSpec(values=VALUES, most=MOST), FieldSpec(values=VALUES, most=MOST))
ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "cigar-wo-pn": ("cigar", {"prototypes": False}),
    "cigar-wo-cdgnn": ("cigar", {"exchange": False}),
    "pnn": ("cigar", {"exchange": False, "prototypes": False}),
    "trunk-continued": ("pinrec", {"plugins": "none"}),
}
LEARNERS: dict[str, tuple[str, dict[str, Any]]] = {
    "pinrec-device": ("pinrec", {"plugins": "device"}),
}
"""Settings under which a method's devices train, where they do not by default."""
LEANING = {f"{name}-graph": name for name in ("base", "duet", "mcrec")}
"""Methods over a trunk whose items lean on a graph in training: the plain one, one that sends the
trunk's weights, and one that reads its table of items by itself."""
NAMES = (*method_names(Task.RANKING), *ABLATIONS, *LEARNERS, *LEANING)
TRUNKS = ("sasrec", "gru4rec", "din", "pool")
FEW = ("gru4rec", "pool")


@dataclass(frozen=True)
class Case:
    """A method over a trunk, with an untrained model and the bundle made of it."""

    method: Method
    model: nn.Module
    bundle: Bundle

    @cached_property
    def scorer(self) -> onnxruntime.InferenceSession:
        """The device's graph, loaded once."""
        return onnxruntime.InferenceSession(
            self.bundle.graph("scorer"), providers=["CPUExecutionProvider"]
        )


def make_method(name: str, trunk: str) -> Method:
    method, settings = {**ABLATIONS, **LEARNERS}.get(name, (LEANING.get(name, name), {}))
    own = {method: settings, "trunk": {"features": "graph"} if name in LEANING else {}}
    return load_method(method, resolve(method, ITEMS, trunk, own, FIELDS))


def facts() -> Facts:
    rng = torch.Generator().manual_seed(1)
    values_VM = torch.randint(0, VALUES + 1, (ITEMS + 1, MOST), generator=rng)
    told_VF = torch.randn(ITEMS + 1, TOLD, generator=rng)
    values_VM[0] = told_VF[0] = 0
    return Facts(torch.full((ITEMS + 1,), 1 / ITEMS), values_VM, told_VF)


def build(method: Method, seed: int = 0) -> nn.Module:
    return method.build(seed, facts())


def pattern_batch(rows: int = 64, history: int = 40, seed: int = 0) -> Batch:
    """Histories whose next item is the last one plus one: something that can be learnt."""
    rng = torch.Generator().manual_seed(seed)
    start = torch.randint(0, ITEMS, (rows, 1), generator=rng)
    history_BH = (start + torch.arange(history)) % ITEMS + 1
    length = torch.randint(0, history + 1, (rows, 1), generator=rng)
    history_BH = torch.where(torch.arange(history) >= history - length, history_BH, 0)
    target = (start + history) % ITEMS + 1
    wrong = torch.randint(1, ITEMS + 1, (rows, 4), generator=rng)
    labels = torch.zeros(rows, 5)
    labels[:, 0] = 1
    profile_BM = torch.randint(0, VALUES + 1, (rows, MOST), generator=rng)
    others_BWL = torch.randint(1, ITEMS + 1, (rows, OTHERS, THEIRS), generator=rng)
    others_BWL[::3, 1:] = 0
    groups_B = 1 + torch.arange(rows) % GROUPS
    known = (profile_BM, others_BWL, groups_B)
    session = {"since_B": torch.full((rows,), 4), "left_B": torch.full((rows,), 3)}
    return Batch(history_BH, torch.cat([target, wrong], 1), labels, *known, **session)


def train_steps(
    method: Method, model: nn.Module, steps: int, stages: int | None = None
) -> list[list[float]]:
    """Losses of ``steps`` Adam steps in each of the method's stages, or in the first ones."""
    losses: list[list[float]] = []
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    for stage in method.stages()[:stages]:
        if stage.start:
            stage.start(model, pattern_batch(rows=256))
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
    model = build(method)
    train_steps(method, model, 20)
    settle(model)
    return Case(method, model, compile_bundle(method, model, log_hash="none"))


def cases_of(capability: type) -> list[tuple[str, str]]:
    """Methods over every trunk, ablations over one of each kind."""
    few = {*ABLATIONS, *LEANING}
    cases = [(m, t) for m in NAMES for t in (FEW if m in few else TRUNKS)]
    return [case for case in cases if isinstance(make_method(*case), capability)]


def learns(name: str, trunk: str) -> bool:
    method = make_method(name, trunk)
    return isinstance(method, Learns) and method.learner(build(method)) is not None


@pytest.fixture(params=cases_of(Method), ids="-".join)
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(*request.param)


@pytest.fixture(
    params=[(m, t) for m, t in cases_of(Method) if make_method(m, t).stages()], ids="-".join
)
def trained_case(request: pytest.FixtureRequest) -> Case:
    """Methods with something to train."""
    return make_case(*request.param)


@pytest.fixture(
    params=[(m, t) for m, t in cases_of(Personalizes) if make_method(m, t).config.uplink],
    ids="-".join,
)
def personal_case(request: pytest.FixtureRequest) -> Case:
    return make_case(*request.param)


@pytest.fixture(params=cases_of(RanksInCloud), ids="-".join)
def ranking_case(request: pytest.FixtureRequest) -> Case:
    return make_case(*request.param)


@pytest.fixture(params=[case for case in cases_of(Learns) if learns(*case)], ids="-".join)
def learning_case(request: pytest.FixtureRequest) -> Case:
    return make_case(*request.param)
