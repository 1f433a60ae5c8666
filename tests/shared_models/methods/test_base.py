"""base's own contract: two objectives over one model."""

import pytest
import torch
from torch.nn import functional

from shared_models.catalog import load_method, resolve
from shared_models.contract.errors import BadSetting
from shared_models.export import compile_bundle
from shared_models.method import Batch
from shared_models.methods.base.method import Base

ITEMS, WINDOW = 12, 6
SEQUENTIAL = ({"name": "gru4rec"}, {"name": "sasrec", "positions": "order", "blocks": 2})


def make(trunk: dict[str, object], objective: str = "softmax", window: int = WINDOW) -> Base:
    fields = dict(trunk)
    name = str(fields.pop("name"))
    settings = {"trunk": fields, "base": {"objective": objective, "window": window}}
    base = load_method("base", resolve("base", ITEMS, name, settings))
    assert isinstance(base, Base)
    return base


def sequences(*rows: list[int]) -> Batch:
    items = torch.zeros(len(rows), WINDOW + 1, dtype=torch.int64)
    for row, taken in enumerate(rows):
        items[row, -len(taken) :] = torch.tensor(taken)
    return Batch(items, torch.zeros(len(rows), 0).long(), torch.zeros(len(rows), 0))


def walks(rows: int, seed: int) -> Batch:
    """Everybody takes the item after the one before: something that can be learnt."""
    start = torch.randint(0, ITEMS, (rows, 1), generator=torch.Generator().manual_seed(seed))
    items = (start + torch.arange(WINDOW + 1)) % ITEMS + 1
    return Batch(items, torch.zeros(rows, 0).long(), torch.zeros(rows, 0))


@pytest.mark.parametrize("trunk", SEQUENTIAL, ids=lambda trunk: trunk["name"])
def test_softmax_over_sequences_is_cross_entropy_over_all_prefixes(
    trunk: dict[str, object],
) -> None:
    base, rows = make(trunk), ([3, 7, 7, 1], [5, 2, 9, 4, 8, 1, 3], [6])
    model = base.build(seed=0).eval()

    loss = base.stages()[0].loss(model, sequences(*rows), torch.Generator())

    prefixes = [(row[:end], row[end]) for row in rows for end in range(1, len(row))]
    every = torch.arange(1, ITEMS + 1)[None]
    logits = [base.score(model, Batch(torch.tensor([p]), every, every), 0) for p, _ in prefixes]
    targets = torch.tensor([target for _, target in prefixes])
    assert torch.allclose(loss, functional.cross_entropy(torch.cat(logits), targets - 1))


@pytest.mark.parametrize("trunk", SEQUENTIAL, ids=lambda trunk: trunk["name"])
def test_the_softmax_loss_falls_and_moves_every_weight(trunk: dict[str, object]) -> None:
    base = make(trunk)
    model, stage = base.build(seed=0).train(), base.stages()[0]
    optimiser = torch.optim.Adam(list(stage.trainable(model)), lr=5e-3)
    seen = {name: 0.0 for name, _ in model.named_parameters()}
    losses = []
    torch.manual_seed(0)

    for step in range(60):
        loss = stage.loss(model, walks(16, step), torch.Generator())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        for name, parameter in model.named_parameters():
            seen[name] += 0.0 if parameter.grad is None else float(parameter.grad.abs().sum())

    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert [n for n, total in seen.items() if total == 0 and not n.endswith("key.bias")] == []


def test_validation_of_a_softmax_compares_shares_of_the_catalogue() -> None:
    base = make({"name": "gru4rec"})
    model, stage = base.build(seed=0).eval(), base.stages()[0]
    every = torch.arange(1, ITEMS + 1).expand(2, -1)
    batch = Batch(torch.tensor([[1, 2, 3], [0, 0, 5]]), every, every)

    scores = stage.scores(model, batch, torch.Generator())

    assert torch.allclose(scores.exp().sum(1), torch.ones(2))
    assert torch.allclose(scores, base.score(model, batch).log_softmax(1), atol=1e-6)


def test_each_objective_says_what_rows_it_reads() -> None:
    for trunk in SEQUENTIAL:
        assert [stage.rows for stage in make(trunk).stages()] == ["sequences"]
        assert [stage.rows for stage in make(trunk, "bce").stages()] == ["targets"]


@pytest.mark.parametrize(
    ("trunk", "words"),
    [
        ({"name": "din"}, "din has no .*: choose sasrec or gru4rec"),
        ({"name": "sasrec"}, r"places counted .*: set trunk\.positions=order"),
    ],
)
def test_a_trunk_without_states_after_every_event_is_refused(
    trunk: dict[str, object], words: str
) -> None:
    with pytest.raises(BadSetting, match=f"setting 'base.objective': {words}"):
        make(trunk)


@pytest.mark.parametrize("trunk", SEQUENTIAL, ids=lambda trunk: trunk["name"])
def test_devices_score_what_a_softmax_trained(trunk: dict[str, object]) -> None:
    base = make(trunk)

    # The exporter refuses a graph that scores otherwise than torch.
    bundle = compile_bundle(base, base.build(seed=0).eval(), log_hash="none")

    assert bundle.manifest.features.window == WINDOW
