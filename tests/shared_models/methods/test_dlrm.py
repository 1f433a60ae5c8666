"""DLRM against what its authors printed, and its tables against plain ones."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from pydantic import ValidationError

from shared_models.graphs import to_onnx
from shared_models.layers.tables import Bags
from shared_models.methods.dlrm.config import Architecture
from shared_models.methods.dlrm.embeddings import Embeddings, mixed_widths
from shared_models.methods.dlrm.network import DLRM, Scorer, losses, probabilities
from tests.shared_models.methods.golden_dlrm import GOLDEN, architecture, as_published, batches


def test_training_gives_the_published_losses_and_the_published_weights() -> None:
    config, model = architecture(), as_published()
    model.embeddings.move_by(GOLDEN["learning_rate"])
    optimiser = torch.optim.SGD(model.meeting.parameters(), GOLDEN["learning_rate"])

    found = []
    for dense, bags, target in batches():
        loss = losses(config, model(dense, Bags.of(bags)), target).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(loss.item())

    np.testing.assert_allclose(found, GOLDEN["published_losses"], atol=GOLDEN["loss_tolerance"])
    for name, weights in GOLDEN["published_final"].items():
        found = model.weights[name].numpy()
        np.testing.assert_allclose(found, weights, rtol=0, atol=GOLDEN["weight_tolerance"])


def test_the_exported_graph_gives_the_published_losses() -> None:
    config, model = architecture(), as_published()
    model.embeddings.move_by(GOLDEN["learning_rate"])
    optimiser = torch.optim.SGD(model.meeting.parameters(), GOLDEN["learning_rate"])

    found = []
    for dense, bags, target in batches():
        session = exported(Scorer(model.embeddings, model.meeting, 32).eval())
        (chance,) = session.run(None, {"dense": dense.numpy(), "ids": padded(bags)})
        found.append(float(((chance - target.numpy()) ** 2).mean()))
        optimiser.zero_grad()
        losses(config, model(dense, Bags.of(bags)), target).mean().backward()
        optimiser.step()

    np.testing.assert_allclose(found, GOLDEN["published_losses"], atol=GOLDEN["loss_tolerance"])


SMALL: dict[str, Any] = {"bottom": "3-8-4", "top": "6-1", "threshold": 5}
VALUES = (4, 30, 7, 100)
KINDS: list[dict[str, Any]] = [
    {},
    {"interaction": "cat"},
    {"itself": True},
    {"remainder": "mult"},
    {"remainder": "add"},
    {"remainder": "concat"},
    {"mixed_dimension": True},
    {"mixed_dimension": True, "round_dims": False, "temperature": 0.2},
    {"loss_threshold": 0.1},
]


def drawn(rows: int = 5, seed: int = 0) -> tuple[torch.Tensor, list[list[list[int]]]]:
    rng = np.random.default_rng(seed)
    bags = [
        [rng.integers(0, count, rng.integers(0, 4)).tolist() for _ in range(rows)]
        for count in VALUES
    ]
    return torch.from_numpy(rng.standard_normal((rows, 3), np.float32)), bags


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_exported_graph_is_the_model_whatever_its_tables(kind: dict[str, Any]) -> None:
    config = Architecture(**SMALL, **kind)
    model = DLRM(config, VALUES, seed=0)
    dense, bags = drawn()

    session = exported(Scorer(model.embeddings, model.meeting, 32).eval())
    (chance,) = session.run(None, {"dense": dense.numpy(), "ids": padded(bags)})

    expected = probabilities(config, model(dense, Bags.of(bags))).detach().numpy()
    np.testing.assert_allclose(chance, expected, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_weight_learns_whatever_the_tables(kind: dict[str, Any]) -> None:
    config = Architecture(**SMALL, **kind, optimizer="sgd")
    model = DLRM(config, VALUES, seed=0)
    model.embeddings.move_by(0.1)
    before = {name: t.clone() for name, t in model.embeddings.state.items()}
    dense, bags = drawn(rows=400)

    losses(config, model(dense, Bags.of(bags)), torch.ones(400)).sum().backward()

    moved = {n for n, t in model.embeddings.state.items() if not torch.equal(t, before[n])}
    learnt = {n for n, p in model.named_parameters() if p.grad is not None}
    assert moved == {name for name in before if "projection" not in name}
    assert learnt == {n for n, _ in model.named_parameters() if "groups" not in n}


@pytest.mark.parametrize("rule", ["sgd", "adagrad"])
def test_rows_move_as_torchs_own_optimisers_move_them(rule: str) -> None:
    config = Architecture(**SMALL, optimizer=rule)
    model, plain = DLRM(config, VALUES, seed=0), DLRM(config, VALUES, seed=0)
    model.embeddings.move_by(0.1)
    kinds = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}
    ours = kinds[rule](model.meeting.parameters(), 0.1)
    theirs = kinds[rule](plain.parameters(), 0.1)

    for step in range(20):
        dense, bags = drawn(rows=16, seed=step)
        for each, optimiser in ((model, ours), (plain, theirs)):
            optimiser.zero_grad()
            losses(config, each(dense, Bags.of(bags)), torch.ones(16)).mean().backward()
            optimiser.step()

    for name, rows in plain.embeddings.state.items():
        np.testing.assert_allclose(model.embeddings.state[name], rows, atol=1e-5)


def test_eight_bits_cost_at_most_half_a_step_of_each_row() -> None:
    model = DLRM(Architecture(**SMALL), VALUES, seed=0)
    dense, bags = drawn()

    with torch.inference_mode():
        eight, full = (
            Scorer(model.embeddings, model.meeting, bits)(dense, torch.tensor(padded(bags)))
            for bits in (8, 32)
        )
    graph = exported(Scorer(model.embeddings, model.meeting, 8).eval())
    (chance,) = graph.run(None, {"dense": dense.numpy(), "ids": padded(bags)})

    assert 0 < (eight - full).abs().max() < 0.01
    np.testing.assert_allclose(chance, eight, atol=1e-6)
    rows, stored = (
        model.embeddings.state["tables.3.rows"],
        Scorer(model.embeddings, model.meeting, 8),
    )
    back = getattr(stored, "3_rows_rows") * getattr(stored, "3_rows_scale")
    step = (rows.amax(1, keepdim=True) - rows.amin(1, keepdim=True)) / 255
    error = (back + getattr(stored, "3_rows_least") - rows).abs()
    assert (error <= 0.5001 * step).all()


@pytest.mark.parametrize("kind", [{}, {"remainder": "add"}, {"mixed_dimension": True}], ids=str)
@pytest.mark.parametrize("own", [range(2), range(2, 4), range(3, 4)], ids=str)
def test_a_part_of_the_features_begins_as_in_the_whole(kind: dict[str, Any], own: range) -> None:
    config = Architecture(**SMALL, **kind)
    whole = Embeddings(config, VALUES, seed=3).state

    part = Embeddings(config, VALUES, seed=3, own=own).state

    assert set(part) == {name for name in whole if int(name.split(".")[1]) in own}
    assert all(torch.equal(part[name], whole[name]) for name in part)


def test_quotients_and_remainders_take_less_than_a_row_for_each_value() -> None:
    config = Architecture(**SMALL, remainder="mult")

    state = Embeddings(config, VALUES, seed=0).state

    assert {name: len(rows) for name, rows in state.items()} == {
        "tables.0.rows": 4,
        "tables.1.quotients": 8,
        "tables.1.remainders": 4,
        "tables.2.quotients": 2,
        "tables.2.remainders": 4,
        "tables.3.quotients": 25,
        "tables.3.remainders": 4,
    }


def test_widths_fall_with_values_by_the_power_law_of_the_original() -> None:
    values = [1000, 10, 100_000, 100]

    assert mixed_widths(values, 64, 0.3, rounded=False) == [16, 64, 4, 32]
    assert mixed_widths(values, 64, 0.25, rounded=True) == [16, 64, 8, 32]


def test_the_sizes_of_the_original_are_read_and_written_as_it_writes_them() -> None:
    config = Architecture(bottom="13-512-256-64-16", top="512-256-1")

    assert config.bottom == (13, 512, 256, 64, 16)
    assert config.top_sizes(26) == (367, 512, 256, 1)
    assert config.model_copy(update={"itself": True}).top_sizes(26)[0] == 394
    assert config.model_copy(update={"interaction": "cat"}).top_sizes(26)[0] == 432
    assert config.model_dump()["bottom"] == "13-512-256-64-16"
    assert Architecture.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"bottom": "13-x-4"}, "expected sizes as in 13-512-256-64-16"),
        ({"bottom": "13-0-4"}, "greater than 0"),
        ({"bottom": "13"}, "bottom needs two sizes"),
        ({"top": "8-2"}, "top ends with 2: its last width must be 1"),
        ({"itself": True, "interaction": "cat"}, "set interaction=dot"),
        ({"remainder": "add", "mixed_dimension": True}, "exclude each other"),
        ({"remainder": "concat", "bottom": "4-5"}, "5 is odd"),
    ],
)
def test_an_architecture_without_sense_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Architecture(**fields)


def padded(bags: list[list[list[int]]]) -> np.ndarray[Any, Any]:
    """Ids from 1 (B, T, L), 0 is padding; some more of it than is needed."""
    longest = 1 + max(len(bag) for table in bags for bag in table)
    ids_BTL = np.zeros((len(bags[0]), len(bags), longest), np.int64)
    for table, of_table in enumerate(bags):
        for row, bag in enumerate(of_table):
            ids_BTL[row, table, : len(bag)] = np.array(bag, np.int64) + 1
    return ids_BTL


def exported(scorer: Scorer) -> onnxruntime.InferenceSession:
    features = len(scorer.names)
    dense = scorer.embeddings.config.bottom[0]
    example = {
        "dense": torch.zeros(2, dense),
        "ids": torch.zeros(2, features, 3, dtype=torch.int64),
    }
    sizes = {"dense": {0: "batch"}, "ids": {0: "batch", 2: "length"}}
    graph = to_onnx(scorer, example, {}, ["probabilities"], sizes)
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
