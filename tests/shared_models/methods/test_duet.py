"""DUET's own contract."""

import numpy as np
import pytest
import torch

from device_client.scorer import Scorer
from protos.v1.collaboration_pb2 import Answer
from shared_models.catalog import load_method, resolve
from shared_models.contract.bundle import same
from shared_models.contract.errors import BadSetting
from shared_models.contract.features import encode_windows
from shared_models.contract.overlay import Overlay, overlay_to_proto
from shared_models.contract.tensors import Codec
from shared_models.export import compile_bundle
from shared_models.layers.sequence import cut_windows
from shared_models.method import Batch, Uplinks
from shared_models.methods.duet.gate import Gate
from shared_models.methods.duet.method import Duet
from shared_models.methods.duet.network import DuetNetwork

ITEMS = 30


def make(trunk: str = "sasrec", **settings: object) -> Duet:
    duet = load_method("duet", resolve("duet", ITEMS, trunk, {"duet": settings}))
    assert isinstance(duet, Duet)
    return duet


def built(duet: Duet) -> DuetNetwork:
    network = duet.build(seed=0).eval()
    assert isinstance(network, DuetNetwork)
    return network


def batch(rows: int = 4, history: int = 60) -> Batch:
    rng = torch.Generator().manual_seed(0)
    shape = (rows, history)
    labels = torch.tensor([[1.0, 0, 0, 0, 0]]).expand(rows, -1)
    return Batch(
        torch.randint(1, ITEMS + 1, shape, generator=rng),
        torch.randint(1, ITEMS + 1, (rows, 5), generator=rng),
        labels,
    )


@pytest.mark.parametrize(
    ("trunk", "numbers"), [("sasrec", 2112), ("gru4rec", 2112), ("din", 16641 + 32 * 128)]
)
def test_the_head_has_the_published_number_of_weights(trunk: str, numbers: int) -> None:
    # Over DIN ours also reads the product of interest and candidate, 32 numbers more.
    head = built(make(trunk)).ranker.head

    assert sum(value.numel() for value in head.slots.values()) == numbers


def test_the_writer_is_saved_trained_and_moved_by_one_step() -> None:
    duet = make()
    network = built(duet)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    stage = duet.stages()[0]
    optimiser = torch.optim.SGD(list(stage.trainable(network)), lr=1.0)

    stage.loss(network.train(), batch(), torch.Generator().manual_seed(0)).backward()
    optimiser.step()

    moved = {
        name for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert {name for name in before if name.startswith("writer.")} <= moved


def test_frozen_heads_never_move_and_are_large() -> None:
    duet = make(heads="frozen")
    network = built(duet)
    frozen = (*network.writer.parameters(), *network.ranker.head.parameters())
    before = [parameter.clone() for parameter in frozen]
    stage = duet.stages()[0]
    optimiser = torch.optim.SGD(list(stage.trainable(network)), lr=1.0)

    stage.loss(network.train(), batch(), torch.Generator().manual_seed(0)).backward()
    optimiser.step()

    assert all(torch.equal(a, b) for a, b in zip(before, frozen, strict=True))
    assert 0.7 < torch.cat([p.flatten() for p in frozen]).std() < 1.0
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.encoder.parameters())


def test_an_older_overlay_reads_older_behaviour() -> None:
    duet = make(generator_window=4)
    network = built(duet)
    data = batch()
    changed = Batch(data.history_BH.clone(), data.candidates_BC, data.labels_BC)
    changed.history_BH[:, -3:] = 7

    stale = [network.code(duet_uplink(duet, b, age=3)) for b in (data, changed)]
    fresh = [network.code(duet_uplink(duet, b, age=0)) for b in (data, changed)]

    assert torch.equal(*stale)
    assert not torch.allclose(*fresh)


def duet_uplink(duet: Duet, data: Batch, age: int) -> torch.Tensor:
    return cut_windows(data.history_BH, duet.config.generator_window, age)


def test_lag_training_draws_every_age_and_fresh_only_draws_none() -> None:
    rng = torch.Generator().manual_seed(0)
    data = batch(rows=2000, history=1)

    lagged, fresh = (make(max_lag=lag)._draw_ages(data, rng) for lag in (20, 0))

    assert set(lagged.tolist()) == set(range(21))
    assert set(fresh.tolist()) == {0}


def test_the_manifest_says_how_old_an_overlay_may_be() -> None:
    assert make(max_lag=7).config.refresh.max_age == 7
    assert make(max_lag=7, max_age=3).config.refresh.max_age == 3


def test_the_generator_may_see_more_than_the_scorer() -> None:
    config = make(generator_window=50, window=10).config

    assert config.uplink.items == 50
    assert config.features.window == 10
    assert config.history == 70


def test_dropping_every_code_trains_the_default_head() -> None:
    duet = make(code_dropout=0.99)
    network = built(duet)

    rng = torch.Generator().manual_seed(0)
    duet.stages()[0].loss(network, batch(rows=2), rng).backward()

    assert network.ranker.head.layers[0].weight.grad is not None
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in network.writer.parameters())


def test_a_setting_without_sense_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"duet\.code_dropout"):
        make(code_dropout=1.5)


DELIVERIES = ("weights", "code", "dense", "model", "generator")


@pytest.mark.parametrize("trunk", ["sasrec", "gru4rec", "din"])
@pytest.mark.parametrize("delivery", DELIVERIES)
def test_every_delivery_gives_the_scores_of_torch(delivery: str, trunk: str) -> None:
    method = make(trunk, delivery=delivery)
    network = built(method)
    scorer = Scorer(compile_bundle(method, network, "log"))
    items = np.random.default_rng(0).integers(1, ITEMS + 1, 25)
    rows = Batch(torch.from_numpy(items)[None], torch.arange(1, 9)[None], torch.zeros(0))

    overlay = None
    if uplink := scorer.manifest.uplink:
        slots = method.personalize(
            network, Uplinks(encode_windows([items.tolist()], uplink.items))
        ).slots
        overlay = Overlay("", 0, {name: value[0] for name, value in slots.items()})
        overlay.check(scorer.manifest.slots)
    window = scorer.manifest.features.encode_window(items.tolist())
    scores = scorer.score(window, np.arange(1, 9), overlay)

    assert (overlay is None) == (delivery == "generator")
    assert same(scores, method.score(network, rows).detach().numpy()[0])


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_delivery_is_no_other_model(delivery: str) -> None:
    assert make(delivery=delivery).config.digest == make().config.digest
    assert make(delivery=delivery, max_age=3).config.digest == make().config.digest
    assert make(delivery=delivery, max_lag=3).config.digest != make().config.digest


def test_a_code_in_eight_bits_costs_at_most_120_bytes() -> None:
    method = make(delivery="code")
    slots = method.personalize(built(method), Uplinks(encode_windows([[3, 4, 5]], 20))).slots
    overlay = Overlay("", 1000, {name: value[0] for name, value in slots.items()})

    answer = Answer(seq=1_000_000, overlay=overlay_to_proto(overlay, Codec.I8ROW))

    assert answer.ByteSize() <= 120


def test_the_gate_alone_moves_in_its_stage() -> None:
    duet = make()
    network = built(duet)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    stage = duet.stages()[1]
    optimiser = torch.optim.Adam(list(stage.trainable(network)), lr=1e-2)
    rng = torch.Generator().manual_seed(0)

    for _ in range(3):
        stage.loss(network, batch(), rng).backward()
        optimiser.step()

    moved = {n for n, v in network.state_dict().items() if not torch.equal(v, before[n])}
    assert moved
    assert all(name.startswith("gate.") for name in moved)


def test_the_gate_learns_where_a_refresh_pays() -> None:
    """The newest item says whether the loss falls: a gate must find that out."""
    gate, rng = Gate(4, 16), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(gate.parameters(), lr=1e-2)

    for _ in range(300):
        now_BD, then_BD = torch.randn(2, 64, 8, generator=rng)
        gain_B = now_BD[:, 5] - then_BD[:, 5]
        loss = torch.nn.functional.mse_loss(gate(now_BD, then_BD), gain_B)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    assert loss.item() < 0.2 * gain_B.var().item()


def test_an_unmoved_window_has_not_changed_and_another_has() -> None:
    network = built(make())
    exported = make().controller(network)
    assert exported is not None
    controller = exported.controller
    now = torch.from_numpy(encode_windows([[3, 4, 5], [3, 4, 5]], 20))
    then = torch.from_numpy(encode_windows([[3, 4, 5], [9, 8, 7]], 20))

    change, gain = controller(now, then)

    assert change[0].item() == pytest.approx(0, abs=1e-6)
    assert change[1].item() > 0.01
    assert gain.shape == (2,)
