"""What every method promises whose devices learn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional

from device_client.adam import Adam
from device_client.learner import Learner
from device_client.lessons import Lesson, lesson_of
from shared_models.contract.bundle import same
from shared_models.contract.manifest import LearningSpec
from tests.conformance.conftest import ITEMS, Case

CPU = ("CPUExecutionProvider",)
FAST = LearningSpec(rate=1e-2, rows=12)


def learner_of(case: Case, spec: LearningSpec = FAST) -> Learner:
    return Learner(case.bundle, spec, CPU)


def lesson(case: Case, seed: int, rows: int = 12, *, empty: bool = False) -> Lesson:
    """Events of one user; ``empty`` blanks what came before them."""
    rng = np.random.default_rng(seed)
    items = rng.integers(1, ITEMS + 1, rows + 5).tolist()
    spec = FAST.model_copy(update={"rows": rows})
    found = lesson_of(items, case.bundle.manifest.features, spec, rng)
    assert found is not None
    return {**found, "event_ids": found["event_ids"] * (not empty)}


def torch_loss(
    case: Case, slots: Mapping[str, torch.Tensor], batch: Mapping[str, np.ndarray[Any, Any]]
) -> torch.Tensor:
    """The loss by the scorer itself, as torch has it."""
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
    scorer = case.method.export(case.model).scorer
    logits = scorer(tensors["event_ids"], tensors["candidate_ids"], *slots.values())
    rows = functional.binary_cross_entropy_with_logits(logits, tensors["labels"], reduction="none")
    return (rows.mean(1) * tensors["weights"]).sum() / tensors["weights"].sum()


def torch_slots(case: Case) -> dict[str, torch.Tensor]:
    defaults = case.bundle.defaults
    return {
        slot.name: torch.from_numpy(defaults[slot.name].copy()).requires_grad_()
        for slot in case.bundle.manifest.slots
    }


def run_graph(learner: Learner, values: np.ndarray, batch: Lesson) -> list[np.ndarray]:
    return learner._graph.run_all(learner._outputs, {**learner.slots(values), **batch})


def test_a_bundle_that_learns_says_how(learning_case: Case) -> None:
    manifest = learning_case.bundle.manifest

    outputs = [port.name for port in manifest.graphs["grad"].outputs]

    assert manifest.learning is not None
    assert outputs == ["loss", *(f"grad.{slot.name}" for slot in manifest.slots)]
    learner_of(learning_case).verify()


@pytest.mark.parametrize("rows", [1, 2, 5, 16, 33])
def test_the_graph_computes_the_gradients_of_torch(learning_case: Case, rows: int) -> None:
    learner, batch, slots = (
        learner_of(learning_case),
        lesson(learning_case, rows, rows),
        torch_slots(learning_case),
    )
    loss = torch_loss(learning_case, slots, batch)
    expected = torch.autograd.grad(loss, list(slots.values()))

    got = run_graph(learner, learner.start, batch)

    assert same(got[0], loss.detach().numpy())
    # Of all gradients together: that of a single bias may be what is left of larger numbers.
    largest = max(float(theirs.abs().max()) for theirs in expected)
    for name, ours, theirs in zip(slots, got[1:], expected, strict=True):
        assert same(ours, theirs.numpy()), name
        assert np.abs(ours - theirs.numpy()).max() <= 1e-4 * largest, name


def test_certain_and_wrong_is_a_large_loss_and_not_an_infinite_one(learning_case: Case) -> None:
    learner, batch = learner_of(learning_case), lesson(learning_case, 1)
    moved = np.random.default_rng(0).standard_normal(learner.start.shape).astype(np.float32)
    values = 200 * (learner.start + 0.1 * moved)
    slots = {name: torch.from_numpy(value) for name, value in learner.slots(values).items()}

    loss, *gradients = run_graph(learner, values, batch)

    assert same(loss, torch_loss(learning_case, slots, batch).detach().numpy())
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    # What a plugin makes of the two sides may still go through a head that bounds it.
    assert loss > 10 or "head.0.weight" not in slots


def test_a_hundred_steps_on_a_device_are_those_of_torch(learning_case: Case) -> None:
    # The first lessons have empty windows: most weights get no gradient at all until the fifth.
    batches = [lesson(learning_case, step, empty=step < 5) for step in range(100)]
    learner, slots = learner_of(learning_case), torch_slots(learning_case)
    adam = Adam(learner.start)
    optimiser = torch.optim.Adam(list(slots.values()), lr=FAST.rate)

    silent = 0
    for batch in batches:
        learner.train(adam, batch)
        optimiser.zero_grad()
        torch_loss(learning_case, slots, batch).backward()
        silent += sum(int((s.grad == 0).sum()) for s in slots.values() if s.grad is not None)
        optimiser.step()

    assert silent > 0
    assert adam.steps == 100
    for name, value in learner.slots(adam.values).items():
        np.testing.assert_allclose(value, slots[name].detach().numpy(), rtol=0, atol=1e-4)
        assert np.abs(value - learning_case.bundle.defaults[name]).max() > 1e-2


def test_learning_lowers_the_loss_of_what_is_learned(learning_case: Case) -> None:
    learner, batch = learner_of(learning_case), lesson(learning_case, 0)
    adam = Adam(learner.start)

    for _ in range(100):
        learner.train(adam, batch)

    before, after = (run_graph(learner, v, batch)[0] for v in (learner.start, adam.values))
    assert after < 0.8 * before


def test_rows_without_weight_change_nothing(learning_case: Case) -> None:
    learner, batch = learner_of(learning_case), lesson(learning_case, 3, rows=5)
    other = lesson(learning_case, 4, rows=3)
    padded = {name: np.concatenate([batch[name], other[name]]) for name in batch}
    padded["weights"][5:] = 0

    plain, with_padding = (run_graph(learner, learner.start, b) for b in (batch, padded))

    assert all(same(ours, theirs) for ours, theirs in zip(with_padding, plain, strict=True))


def test_the_graph_has_no_constant_so_small_that_an_exporter_drops_it(learning_case: Case) -> None:
    graph = onnx.load_from_string(learning_case.bundle.graph("grad")).graph

    scalars = [
        float(array)
        for array in map(numpy_helper.to_array, graph.initializer)
        if array.ndim == 0 and array.dtype == np.float32
    ]

    assert not any(0 < abs(scalar) <= 1e-7 for scalar in scalars)


def test_learning_reads_no_uplink(learning_case: Case) -> None:
    assert {port.name for port in learning_case.bundle.manifest.graphs["grad"].inputs} == {
        "event_ids",
        "candidate_ids",
        "labels",
        "weights",
        *learning_case.bundle.defaults,
    }
