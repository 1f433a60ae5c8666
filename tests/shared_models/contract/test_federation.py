"""What a device contributes: small, rounded once, and nothing but slot updates and a header."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from protos.v1.collaboration_pb2 import Ask, Contributed
from shared_models.contract.federation import (
    Contribution,
    Layout,
    Outcome,
    Settled,
    contribution_to_proto,
    length_of,
    rounded,
    settled_from_proto,
    settled_to_proto,
    vector_of,
)
from shared_models.contract.manifest import FederationSpec, LearningSpec, Manifest
from shared_models.contract.tensors import Float32Array, TensorSpec, tensor_from_proto
from tests.cloud_server.conftest import make_bundle

# Two bottleneck adapters, 32 to 16 to 32, with their biases: 2,144 numbers.
ADAPTER = {"down.weight": (16, 32), "down.bias": (16,), "up.weight": (32, 16), "up.bias": (32,)}
PLUGIN = {f"{place}.{name}": shape for place in "ac" for name, shape in ADAPTER.items()}
HEADER = {"sequence", "group", "version", "examples"}
MOST = 3 * 1024


def drawn(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Float32Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(s, np.float32) for name, s in shapes.items()}


def contribution() -> Contribution:
    return Contribution(70_000, 5, 1_000, 65_000, rounded(drawn(PLUGIN), 1.0))


def leaves(message: Message, path: str = "") -> dict[str, Any]:
    """Every field that is set, by its path."""
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        name = f"{path}{field.name}"
        if field.message_type is None:
            found[name] = value
            continue
        parts = value if field.is_repeated else [value]
        for part in parts:
            found.update(leaves(part, f"{name}."))
    return found


def test_a_contribution_has_at_most_three_kilobytes_for_a_plugin() -> None:
    ask = Ask(seq=100_000, at=1e9, round=1_000, contribute=contribution_to_proto(contribution()))

    assert sum(map(np.prod, PLUGIN.values())) == 2144
    assert len(ask.SerializeToString()) <= MOST


def test_a_contribution_is_slot_updates_and_a_header_and_names_nobody() -> None:
    ask = Ask(seq=7, at=1.0, round=3, contribute=contribution_to_proto(contribution()))

    again = Ask.FromString(ask.SerializeToString())

    tensor = {f"contribute.deltas.{name}" for name in ("name", "shape", "codec", "data")}
    header = {f"contribute.{name}" for name in HEADER}
    assert set(leaves(again)) == {"seq", "at", "round", *header, *tensor}
    assert {delta.name: tuple(delta.shape) for delta in again.contribute.deltas} == PLUGIN
    numbers = sum(tensor_from_proto(delta).size for delta in again.contribute.deltas)
    scales = sum(shape[0] if len(shape) == 2 else 1 for shape in PLUGIN.values())
    assert sum(len(delta.data) for delta in again.contribute.deltas) == numbers + 4 * scales


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_what_is_rounded_is_no_longer_than_allowed_and_the_cloud_reads_the_same(
    seed: int, longest: float
) -> None:
    deltas = rounded(drawn(PLUGIN, seed), longest)

    message = contribution_to_proto(Contribution(0, 0, 0, 1, deltas))

    read = vector_of(tensor_from_proto(delta) for delta in message.deltas)
    assert length_of(vector_of(deltas.values())) <= longest * (1 + 1e-6)
    np.testing.assert_allclose(read, vector_of(deltas.values()), rtol=1e-6)


def test_a_short_move_is_only_rounded() -> None:
    deltas = drawn(PLUGIN)

    coarse = rounded(deltas, 1e6)

    for name, delta in deltas.items():
        steps = np.abs(delta).max(axis=-1, keepdims=True) / 127
        assert (np.abs(coarse[name] - delta) <= steps * 0.51).all()


def test_a_vector_comes_apart_as_it_was_put_together() -> None:
    slots = drawn(PLUGIN)
    specs = [TensorSpec(name=name, shape=shape) for name, shape in PLUGIN.items()]

    again = Layout(specs).slots(vector_of(slots.values()))

    assert all(np.array_equal(again[name], slots[name]) for name in slots)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_cloud_s_word_survives_the_wire(outcome: Outcome) -> None:
    settled = Settled(outcome, 7, "why")

    assert settled_from_proto(settled_to_proto(settled)) == settled


def test_an_outcome_that_this_device_does_not_know_is_a_refusal() -> None:
    newer = Contributed(outcome=77, contributions_stored=1)  # type: ignore[arg-type]

    assert settled_from_proto(newer).outcome is Outcome.REFUSED


def test_devices_that_learn_together_have_no_uplink() -> None:
    learning = LearningSpec(federation=FederationSpec()).model_dump()

    with pytest.raises(ValidationError, match="by group, not by uplink"):
        make_bundle(learning=learning)


def together(method: str = "tiny", **federation: Any) -> dict[str, Any]:
    spec = LearningSpec(federation=FederationSpec(**federation))
    return {"method": method, "uplink": None, "learning": spec.model_dump()}


def test_what_is_shared_ends_with_its_bundle_unless_it_outlives_it() -> None:
    old, new = (make_bundle(**together(), log_hash=digit * 64) for digit in "01")
    lasting = [make_bundle(**together(outlives=True), log_hash=digit * 64) for digit in "01"]

    assert old.lineage == old.id != new.lineage == new.id
    assert lasting[0].id != lasting[1].id
    assert lasting[0].lineage == lasting[1].lineage


@pytest.mark.parametrize(
    "other",
    [
        {"method": "other"},
        {"slots": [{"name": "head.bias", "shape": [6]}]},
        {"groups": {"count": 3, "slots": ["head.bias"]}},
    ],
    ids=["method", "slots", "groups"],
)
def test_values_that_outlive_a_bundle_serve_only_the_same_slots_of_the_same_method(
    other: dict[str, Any],
) -> None:
    fields = together(outlives=True)

    assert make_bundle(**fields).lineage != make_bundle(**{**fields, **other}).lineage


def test_a_manifest_without_learning_shares_nothing() -> None:
    manifest: Manifest = make_bundle(uplink=None).manifest

    assert manifest.federation is None
    assert not manifest.shares
