"""A bundle whose devices learn together, and their end of a session."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from protos.v1.collaboration_pb2 import Contribute, Contributed, GroupRequest, Outcome, Overlay
from shared_models.contract.arrays import arrays_to_bytes
from shared_models.contract.bundle import DEFAULTS, Bundle
from shared_models.contract.federation import Contribution, contribution_to_proto
from shared_models.contract.manifest import FederationSpec, LearningSpec
from shared_models.contract.tensors import Float32Array, tensor_from_proto
from shared_models.method import ScorerExport
from tests.cloud_server.conftest import SLOTS, Cloud, Device, make_bundle, release

DefaultValues = dict[str, Float32Array]
START = {name: np.full(shape, 0.25, np.float32) for name, shape in SLOTS.items()}


def bundle_of(
    spec: FederationSpec | None = None, *, groups: int = 0, log_hash: str = "0" * 64
) -> Bundle:
    """A bundle that starts from `START`."""
    about = make_bundle(
        uplink=None,
        uploads=False,
        log_hash=log_hash,
        learning=LearningSpec(federation=spec or FederationSpec()).model_dump(),
        groups={"count": groups, "slots": tuple(SLOTS)} if groups else None,
    ).manifest.model_dump(mode="json", exclude={"files"})
    return Bundle.make(about, {"scorer.onnx": b"junk", DEFAULTS: arrays_to_bytes(START)})


class Grouped:
    """A method whose groups start at their own numbers."""

    name = "tiny"
    config = SimpleNamespace(uplink=None, history=1)

    def __init__(self, groups: int) -> None:
        self._groups = groups

    def export(self, network: Any) -> ScorerExport:
        starts = [
            {name: torch.full(shape, float(number)) for name, shape in SLOTS.items()}
            for number in range(1, self._groups + 1)
        ]
        return ScorerExport(network, groups=starts)


def deltas(value: float, seed: int | None = None) -> DefaultValues:
    """The same move in every number, or one drawn by chance."""
    if seed is None:
        return {name: np.full(shape, value, np.float32) for name, shape in SLOTS.items()}
    rng = np.random.default_rng(seed)
    return {n: (value * rng.standard_normal(s)).astype(np.float32) for n, s in SLOTS.items()}


def message(sequence: int = 0, value: float = 0.1, **changed: Any) -> Contribute:
    fields = {"group": 0, "version": 0, "examples": 1, "deltas": deltas(value), **changed}
    return contribution_to_proto(Contribution(sequence, **fields))


class Member:
    """A device that takes part, as a replay or, with ``waits=False``, outside of one."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.contributions_stored = 0

    @classmethod
    async def joined(
        cls, cloud: Cloud, bundle: Bundle, user: int, *, waits: bool = True
    ) -> "Member":
        member = cls(cloud.device())
        welcome = await member._device.hello(bundle, user=user, waits=waits)
        assert not welcome.HasField("fault"), welcome
        member.contributions_stored = welcome.welcome.contributions_stored
        return member

    async def send(self, contribution: Contribute, round_: int = 1) -> Contributed:
        answer = await self._device.ask(round=round_, contribute=contribution)
        assert not answer.HasField("fault"), answer.fault
        return answer.contributed

    async def shared(self, round_: int = 1, have: int | None = None) -> Overlay:
        answer = await self._device.ask(round=round_, group=GroupRequest(have=have))
        assert not answer.HasField("fault"), answer.fault
        return answer.overlay

    async def values(self, round_: int = 1) -> DefaultValues:
        overlay = await self.shared(round_)
        return {slot.name: tensor_from_proto(slot) for slot in overlay.slots}


def outcome(answer: Contributed) -> str:
    return Outcome.Name(answer.outcome).removeprefix("OUTCOME_").lower()


def assert_all(values: DefaultValues, expected: float) -> None:
    assert set(values) == set(SLOTS)
    for value in values.values():
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)


@pytest.fixture
def together(root: Path) -> Bundle:
    """The released bundle of everybody."""
    return release(root, bundle_of())


@pytest.fixture
def in_groups(root: Path, load_tiny: Callable[[Any], None]) -> Bundle:
    """Two groups: users 0 and 1 in the second one, others in the first."""
    load_tiny(Grouped(2))
    found = release(root, bundle_of(groups=2))
    np.save(root / "models" / found.id / "groups.npy", np.array([2, 2, 1, 1]), allow_pickle=False)
    return found
