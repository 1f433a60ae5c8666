"""ecrec's own contract."""

from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from device_client.scorer import Scorer
from shared_models.catalog import load_method, resolve
from shared_models.contract.bundle import Bundle, same
from shared_models.contract.features import encode_windows
from shared_models.contract.overlay import Overlay, overlay_to_proto
from shared_models.contract.tensors import Codec, Float32Array
from shared_models.export import compile_bundle
from shared_models.layers.sequence import cut_windows
from shared_models.method import Batch, Uplinks
from shared_models.methods.ecrec.method import Ecrec, disagreement
from shared_models.methods.ecrec.network import COVERAGE, MEMORY, EcrecNetwork

# Shapes: B rows, L events of the long history, T events in the window, C candidates, D width.

ITEMS, LONG, WINDOW = 60, 30, 5
TRUNKS = ("sasrec", "gru4rec", "din", "pool")
EXPORTED = ("gru4rec", "pool")
"""One trunk of each kind: exports take long, and conformance makes them over all trunks."""
CANDIDATES = np.arange(1, 11)


def make(trunk: str = "pool", **settings: object) -> Ecrec:
    own = {"long": LONG, "window": WINDOW, "max_lag": 10, **settings}
    sections = {"ecrec": own, "trunk": {"embedding_scale": 0.5}}
    ecrec = load_method("ecrec", resolve("ecrec", ITEMS, trunk, sections))
    assert isinstance(ecrec, Ecrec)
    return ecrec


def built(ecrec: Ecrec, seed: int = 0) -> EcrecNetwork:
    network = ecrec.build(seed).eval()
    assert isinstance(network, EcrecNetwork)
    return network


def tastes(rows: int = 64, seed: int = 0, history: int = 40) -> Batch:
    """Users of one half of the items, and candidates of both: only a long history tells which."""
    rng = torch.Generator().manual_seed(seed)
    half = ITEMS // 2
    taste_B1 = torch.randint(0, 2, (rows, 1), generator=rng)
    history_BH = torch.randint(1, half + 1, (rows, history), generator=rng) + half * taste_B1
    history_BH[:, -WINDOW:] = torch.randint(1, ITEMS + 1, (rows, WINDOW), generator=rng)
    candidates_BC = torch.randint(1, ITEMS + 1, (rows, 4), generator=rng)
    labels_BC = ((candidates_BC > half) == taste_B1.bool()).float()
    return Batch(history_BH, candidates_BC, labels_BC)


def train(ecrec: Ecrec, network: EcrecNetwork, steps: int) -> EcrecNetwork:
    rng, stage = torch.Generator().manual_seed(0), ecrec.stages()[0]
    optimiser = torch.optim.Adam(list(stage.trainable(network)), lr=1e-2)
    torch.manual_seed(0)
    network.train()
    for step in range(steps):
        loss = stage.loss(network, tastes(seed=step), rng)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


@cache
def compiled(trunk: str) -> tuple[Ecrec, EcrecNetwork, Bundle]:
    ecrec = make(trunk)
    network = train(ecrec, built(ecrec), 3)
    return ecrec, network, compile_bundle(ecrec, network, "log")


def row_of(items: list[int], history: int) -> Batch:
    history_BH = torch.zeros(1, history, dtype=torch.int64)
    history_BH[0, history - len(items) :] = torch.tensor(items)
    return Batch(history_BH, torch.from_numpy(CANDIDATES)[None], torch.zeros(0))


def random_items(length: int, seed: int = 0) -> list[int]:
    found: list[int] = np.random.default_rng(seed).integers(1, ITEMS + 1, length).tolist()
    return found


def memories(ecrec: Ecrec, network: EcrecNetwork, histories: list[list[int]]) -> Float32Array:
    memory_BD = ecrec.personalize(network, Uplinks(encode_windows(histories, LONG))).memory_BD
    assert memory_BD is not None
    return memory_BD


def overlay_of(ecrec: Ecrec, network: EcrecNetwork, items: list[int]) -> Overlay:
    """What a refresh answers, as the device takes it."""
    slots = ecrec.personalize(network, Uplinks(encode_windows([items], LONG))).slots
    return Overlay("", len(items), {name: value[0] for name, value in slots.items()})


@pytest.mark.parametrize("trunk", EXPORTED)
@pytest.mark.parametrize("known", [0, 3, 17, 40])
def test_a_device_with_a_fresh_memory_scores_as_the_cloud_with_the_long_history(
    trunk: str, known: int
) -> None:
    ecrec, network, bundle = compiled(trunk)
    scorer, items = Scorer(bundle), random_items(known)

    window = scorer.manifest.features.encode_window(items)
    scores = scorer.score(window, CANDIDATES, overlay_of(ecrec, network, items))

    expected = ecrec.score(network, row_of(items, ecrec.config.history)).detach().numpy()[0]
    assert same(scores, expected)


def test_a_stale_memory_ranks_otherwise_and_a_refresh_ends_that() -> None:
    ecrec = make()
    network, batch = train(ecrec, built(ecrec), 30), tastes(rows=200, seed=99)
    fresh_BC = ecrec.score(network, batch)

    gaps = [(ecrec.score(network, batch, age) - fresh_BC).abs().mean().item() for age in (10, 0)]

    assert gaps[0] > 1e-4
    assert gaps[1] == 0


def test_memories_do_not_depend_on_the_order_of_rows_or_on_who_shares_a_batch() -> None:
    ecrec = make()
    network = train(ecrec, built(ecrec), 3)
    histories = [random_items(1 + 3 * user, user) for user in range(24)]

    together = memories(ecrec, network, histories)

    assert np.array_equal(memories(ecrec, network, histories[::-1])[::-1], together)
    assert np.array_equal(memories(ecrec, network, histories[3:11]), together[3:11])
    assert np.array_equal(memories(ecrec, network, [histories[5]] * 8), together[[5] * 8])


def test_a_hundred_refreshes_of_one_history_give_one_memory() -> None:
    ecrec = make()
    network, history = train(ecrec, built(ecrec), 3), random_items(LONG)

    refreshed = {memories(ecrec, network, [history] * 8).tobytes() for _ in range(100)}

    assert len(refreshed) == 1


def test_a_memory_stays_bounded_however_often_it_is_refreshed() -> None:
    ecrec = make()
    network = train(ecrec, built(ecrec), 3)
    events, aggregator = random_items(100), network.aggregator

    norms = [
        np.linalg.norm(memories(ecrec, network, [events[:count]] * 8)[0]) for count in range(1, 101)
    ]

    # Weights of attention sum to 1, and what they weigh lies between -1 and 1.
    longest = aggregator.value.weight.norm() * network.config.trunk.width**0.5
    bound = aggregator.common.norm() + torch.linalg.matrix_norm(aggregator.out.weight, 2) * longest
    assert max(norms) <= bound.item()
    assert max(norms[50:]) < 2 * max(norms[:50])


def graph_of(bundle: Bundle) -> onnx.GraphProto:
    return onnx.load_from_string(bundle.graph("scorer")).graph


def test_the_device_s_graph_reads_window_candidates_and_memory_alone() -> None:
    graph = graph_of(compiled("pool")[2])

    assert {port.name for port in graph.input} == {"event_ids", "candidate_ids", MEMORY, COVERAGE}
    assert [port.name for port in graph.output] == ["scores"]


@pytest.mark.parametrize("trunk", EXPORTED)
def test_the_device_s_graph_holds_neither_aggregation_nor_a_table_of_users(trunk: str) -> None:
    _, network, bundle = compiled(trunk)

    arrays = [numpy_helper.to_array(each) for each in graph_of(bundle).initializer]

    rows = {array.shape[0] for array in arrays if array.ndim == 2}
    secret = {tuple(p.shape) for p in (network.aggregator.query, network.aggregator.age_bias)}
    assert not secret & {array.shape for array in arrays}
    for layer in (network.aggregator.key, network.aggregator.value, network.aggregator.out):
        weight = layer.weight.detach().numpy()
        assert not any(holds(array, weight) for array in arrays)
    assert ITEMS + 1 in rows
    assert max(rows - {ITEMS + 1}) <= max(
        *network.ranker.head.sizes, 4 * network.config.trunk.width
    )


def holds(array: np.ndarray, weight: Float32Array) -> bool:
    return any(array.shape == w.shape and np.array_equal(array, w) for w in (weight, weight.T))


def test_padding_behind_the_long_history_changes_no_memory() -> None:
    ecrec = make()
    network, items = train(ecrec, built(ecrec), 3), random_items(7)

    short, long = (
        network.remembered(torch.from_numpy(encode_windows([items] * 8, length)))[0][MEMORY]
        for length in (7, 30)
    )

    torch.testing.assert_close(short, long, atol=1e-6, rtol=0)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_padding_behind_the_window_changes_no_score(trunk: str) -> None:
    network = built(make(trunk))
    slots = network.remembered(torch.from_numpy(encode_windows([random_items(20)], LONG)))[0]
    candidates_BC = torch.from_numpy(CANDIDATES)[None]

    short, long = (
        network(torch.from_numpy(encode_windows([[3, 4]], length)), candidates_BC, slots)
        for length in (2, WINDOW)
    )

    torch.testing.assert_close(short, long, atol=1e-6, rtol=0)


def test_what_stands_where_nothing_may_be_read_has_no_weight() -> None:
    network = built(make())
    event_ids_BL = torch.from_numpy(encode_windows([random_items(20)], LONG))
    hidden_BL = torch.arange(LONG)[None] < 10
    other_BL = torch.where(hidden_BL | (event_ids_BL == 0), event_ids_BL, 7)

    memory, other = (
        network.remembered(each_BL, [hidden_BL])[0][MEMORY] for each_BL in (event_ids_BL, other_BL)
    )

    assert torch.equal(memory, other)


@pytest.mark.parametrize("trunk", EXPORTED)
def test_an_empty_window_beside_a_memory_is_scored_finitely(trunk: str) -> None:
    ecrec, network, bundle = compiled(trunk)
    scorer = Scorer(bundle)

    memory = overlay_of(ecrec, network, random_items(20))
    scores = scorer.score(scorer.manifest.features.encode_window([]), CANDIDATES, memory)

    assert np.isfinite(scores).all()


def test_where_every_event_is_hidden_the_common_memory_is_left() -> None:
    network = train(make(), built(make()), 3)
    event_ids_BL = torch.from_numpy(encode_windows([random_items(20), []], LONG))

    hidden = network.remembered(event_ids_BL, [torch.zeros(2, LONG, dtype=torch.bool)])[0]

    assert network.aggregator.common.abs().sum() > 0
    assert torch.equal(hidden[MEMORY], network.aggregator.common.expand(2, -1))


def test_the_gate_lies_between_0_and_1() -> None:
    network = train(make(), built(make()), 30)
    assert network.gate is not None
    share_N1 = torch.linspace(0, 1, 11)[:, None]

    gates = torch.stack([network.gate(share_N1, share_N1[n].expand(11, 1)) for n in range(11)])

    assert ((gates > 0) & (gates < 1)).all()
    assert gates.std() > 1e-3


def force_gate(network: EcrecNetwork, logit: float) -> None:
    assert network.gate is not None
    last = network.gate.layers[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(logit)


def window_scores(network: EcrecNetwork, window: list[int], slots: dict[str, Tensor]) -> Tensor:
    event_ids_BT = torch.from_numpy(encode_windows([window], WINDOW))
    scores_BC: Tensor = network(event_ids_BT, torch.from_numpy(CANDIDATES)[None], slots)
    return scores_BC


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize(("logit", "reads_window"), [(200.0, False), (-200.0, True)])
def test_a_gate_that_is_open_reads_memory_alone_and_one_that_is_shut_the_window(
    trunk: str, logit: float, *, reads_window: bool
) -> None:
    network = built(make(trunk))
    force_gate(network, logit)
    long_BL = torch.from_numpy(encode_windows([random_items(20, 1), random_items(20, 2)], LONG))
    both = network.remembered(long_BL)[0]
    one, other = ({name: value[[row]] for name, value in both.items()} for row in (0, 1))

    scores = window_scores(network, [1, 2, 3], one)

    windows_tell = not torch.equal(scores, window_scores(network, [9, 8, 7], one))
    memories_tell = not torch.equal(scores, window_scores(network, [1, 2, 3], other))
    assert (windows_tell, memories_tell) == (reads_window, not reads_window)


def pass_logits(ecrec: Ecrec, network: EcrecNetwork, seed: int = 0) -> Tensor:
    """The logits (K, B, C) of the passes that training makes."""
    rng, batch = torch.Generator().manual_seed(seed), tastes()
    long_BL = cut_windows(batch.history_BH, LONG)
    seen = [ecrec._seen(long_BL, rng) for _ in range(ecrec.config.passes)]
    passes = network.remembered(long_BL, seen)
    return torch.stack([ecrec._logits(network, batch, slots) for slots in passes])


def test_passes_that_hide_nothing_agree_exactly() -> None:
    ecrec = make(keep=1.0, passes=4)

    logits_KBC = pass_logits(ecrec, built(ecrec))

    assert torch.equal(logits_KBC, logits_KBC[:1].expand(4, -1, -1))
    assert disagreement(logits_KBC).item() == 0


def test_passes_that_hide_events_disagree_and_learn_not_to() -> None:
    ecrec = make(keep=0.5, passes=4)
    network = train(ecrec, built(ecrec), 20)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)

    before = disagreement(pass_logits(ecrec, network)).item()
    for seed in range(1, 30):
        optimiser.zero_grad()
        disagreement(pass_logits(ecrec, network, seed)).backward()
        optimiser.step()
    after = disagreement(pass_logits(ecrec, network)).item()

    assert before > 1e-6
    assert after < 0.5 * before


@pytest.mark.parametrize(("label", "grows"), [(1.0, True), (0.0, False)])
def test_a_label_of_one_raises_the_logit_and_one_of_zero_lowers_it(
    label: float, *, grows: bool
) -> None:
    ecrec = make()
    network, batch = built(ecrec), tastes(rows=8)
    batch = Batch(batch.history_BH, batch.candidates_BC, torch.full_like(batch.labels_BC, label))
    before_BC = ecrec.score(network, batch)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)

    ecrec.stages()[0].loss(network, batch, torch.Generator().manual_seed(0)).backward()
    optimiser.step()

    assert ((ecrec.score(network, batch) > before_BC) == grows).all()


def test_the_answer_to_a_refresh_costs_at_most_160_bytes_whatever_the_history() -> None:
    ecrec = make(long=100)
    network = built(ecrec)

    def size(length: int) -> int:
        slots = ecrec.personalize(
            network, Uplinks(encode_windows([random_items(length)], 100))
        ).slots
        values = {name: value[0] for name, value in slots.items()}
        overlay = Overlay("", 1_000_000, values, events_stored=1_000_000)
        return overlay_to_proto(overlay, Codec.F16).ByteSize()

    sizes = {size(length) for length in (1, 10, 100, 1000)}

    assert len(sizes) == 1
    assert max(sizes) <= 160


def test_training_finds_in_the_memory_what_the_window_does_not_tell() -> None:
    ecrec = make()
    network, batch = train(ecrec, built(ecrec), 60), tastes(rows=500, seed=1234)

    with_memory = ecrec.score(network, batch)
    without = network(
        cut_windows(batch.history_BH, WINDOW),
        batch.candidates_BC,
        {name: value.expand(500, -1) for name, value in network.defaults.items()},
    )

    def right(scores: Tensor) -> float:
        return ((scores > 0) == batch.labels_BC.bool()).float().mean().item()

    assert right(with_memory) > 0.9
    assert right(without) < 0.65
