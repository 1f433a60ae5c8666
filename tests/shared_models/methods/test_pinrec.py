"""pinrec's own contract."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cloud_server.checkpoints import Trained
from cloud_server.evaluate import score_moments
from cloud_server.recipe import TrainSettings
from cloud_server.train import Epoch, _optimiser, train
from device_client.allowance import LearningAccount, LearningAllowance
from device_client.history import History
from device_client.learner import Learned, Learner
from device_client.scorer import Scorer
from shared_models.catalog import load_method, resolve
from shared_models.contract.bundle import Bundle, same
from shared_models.contract.events import Event
from shared_models.contract.manifest import LearningSpec
from shared_models.contract.metrics import auc
from shared_models.contract.overlay import Overlay, overlay_to_proto
from shared_models.contract.tensors import (
    Codec,
    Float32Array,
    tensor_from_proto,
    tensor_to_proto,
)
from shared_models.export import compile_bundle
from shared_models.logs.moments import replay_moments
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog
from shared_models.logs.worlds.activity import ActivityWorld, read_activity
from shared_models.method import Batch, Stage
from shared_models.methods.pinrec.method import Pinrec, mean_of_groups
from shared_models.methods.pinrec.network import PinrecNetwork, Plugin

# Shapes: B rows, T events in the window, C candidates, U users.

ITEMS, WINDOW, GROUPS = 40, 6, 3
TRUNKS = ("sasrec", "gru4rec", "din", "pool")
EXPORTED = ("gru4rec", "pool")
"""One trunk of each kind: exports take long, and conformance makes them over all trunks."""
CANDIDATES = np.arange(1, 11)
CPU = ("CPUExecutionProvider",)


def make(trunk: str = "pool", **settings: object) -> Pinrec:
    own = {"window": WINDOW, "groups": GROUPS, **settings}
    sections = {"pinrec": own, "trunk": {"embedding_scale": 0.5, "dropout": 0.0}}
    pinrec = load_method("pinrec", resolve("pinrec", ITEMS, trunk, sections))
    assert isinstance(pinrec, Pinrec)
    return pinrec


def built(pinrec: Pinrec, seed: int = 0) -> PinrecNetwork:
    network = pinrec.build(seed).eval()
    assert isinstance(network, PinrecNetwork)
    return network


def tastes(rows: int = 48, seed: int = 0, groups: tuple[int, ...] = (1, 2, 3)) -> Batch:
    """Users of groups that want one half of the items or the other, whatever they took."""
    rng = torch.Generator().manual_seed(seed)
    groups_B = torch.tensor(groups)[torch.randint(0, len(groups), (rows,), generator=rng)]
    history_BH = torch.randint(1, ITEMS + 1, (rows, WINDOW), generator=rng)
    history_BH[::4, :4] = 0
    candidates_BC = torch.randint(1, ITEMS + 1, (rows, 4), generator=rng)
    labels_BC = ((candidates_BC > ITEMS // 2) == (groups_B == 3)[:, None]).float()
    return Batch(history_BH, candidates_BC, labels_BC, groups_B=groups_B)


def steps(stage: Stage, network: PinrecNetwork, count: int, rate: float = 1e-2) -> None:
    """Steps of a stage, as training takes them."""
    chosen = list(stage.trainable(network))
    slow = list(stage.slow(network)) if stage.slow else []
    optimiser = _optimiser(chosen, slow, TrainSettings(learning_rate=rate), {})
    rng = torch.Generator().manual_seed(0)
    for step in range(count):
        optimiser.zero_grad()
        stage.loss(network, tastes(seed=step), rng).backward()
        optimiser.step()


def trained(pinrec: Pinrec, count: int = 20, seed: int = 0) -> PinrecNetwork:
    network = built(pinrec, seed)
    for stage in pinrec.stages():
        steps(stage, network, count)
    return network


@cache
def compiled(trunk: str, plugins: str = "cloud") -> tuple[Pinrec, PinrecNetwork, Bundle]:
    pinrec = make(trunk, plugins=plugins, learning={"rate": 1e-2, "rows": 8})
    network = trained(pinrec)
    return pinrec, network, compile_bundle(pinrec, network, "log")


def overlay_of(pinrec: Pinrec, network: PinrecNetwork, group: int) -> Overlay:
    """What devices of a group get."""
    return Overlay("", 0, arrays(pinrec.export(network).groups[group - 1]))


def arrays(values: Mapping[str, Tensor]) -> dict[str, Float32Array]:
    return {name: value.detach().numpy() for name, value in values.items()}


def gradients(pinrec: Pinrec, network: PinrecNetwork, batch: Batch) -> dict[str, Tensor]:
    """Of the second stage's loss, for every parameter of the trunk."""
    rng, trunk = torch.Generator().manual_seed(0), dict(network.ranker.named_parameters())
    loss = pinrec.stages()[1].loss(network, batch, rng)
    values = torch.autograd.grad(loss, list(trunk.values()), allow_unused=True)
    return {n: v for n, v in zip(trunk, values, strict=True) if v is not None}


def rows_of(batch: Batch, rows: Tensor) -> Batch:
    parts = (batch.history_BH, batch.candidates_BC, batch.labels_BC)
    groups_B = batch.groups_B
    assert groups_B is not None
    return Batch(*(part[rows] for part in parts), groups_B=groups_B[rows])


# 5.8.1


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_plugin_without_its_up_weights_is_the_trunk_to_the_bit(trunk: str) -> None:
    pinrec = make(trunk)
    network, batch = trained(pinrec), tastes()
    plain = network(batch.history_BH, batch.candidates_BC)
    bent = pinrec.score(network, batch)

    with torch.no_grad():
        for name, parameter in network.plugins.named_parameters():
            parameter.mul_("up" not in name)

    assert not torch.allclose(bent, plain, atol=1e-3)
    assert torch.equal(pinrec.score(network, batch), plain_scores(pinrec, network, batch))


def plain_scores(pinrec: Pinrec, network: PinrecNetwork, batch: Batch) -> Tensor:
    return pinrec.score(network, Batch(batch.history_BH, batch.candidates_BC, batch.labels_BC))


# 5.8.2


def test_the_first_stage_leaves_plugins_alone_and_knows_no_groups() -> None:
    pinrec = make()
    network, batch = built(pinrec), tastes()
    before = {name: value.clone() for name, value in network.plugins.state_dict().items()}

    steps(pinrec.stages()[0], network, 10)

    after = network.plugins.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    others = Batch(
        batch.history_BH, batch.candidates_BC, batch.labels_BC, groups_B=4 - batch.groups_B
    )
    assert torch.equal(pinrec.score(network, batch), pinrec.score(network, others))


# 5.8.3


@pytest.mark.parametrize("goes_on", [True, False])
def test_rows_of_one_group_move_no_other_plugin_and_no_moment_of_it(goes_on: bool) -> None:
    pinrec = make(trunk_goes_on=goes_on)
    network = trained(pinrec)
    stage, batch = pinrec.stages()[1], tastes()
    chosen = list(stage.trainable(network))
    optimiser = _optimiser(chosen, [], TrainSettings(), {})
    stage.loss(network, batch, torch.Generator()).backward()
    optimiser.step()
    others = [p for g in (1, 3) for p in network.plugin(g).parameters()]
    before = [(p.clone(), optimiser.state[p]["exp_avg"].clone()) for p in others]
    moved = [p.clone() for p in network.plugin(2).parameters()]
    scores = pinrec.score(network, tastes(groups=(1, 3)))

    optimiser.zero_grad()
    stage.loss(network, tastes(groups=(2,)), torch.Generator()).backward()
    optimiser.step()

    for parameter, (value, moment) in zip(others, before, strict=True):
        assert torch.equal(parameter, value)
        assert torch.equal(optimiser.state[parameter]["exp_avg"], moment)
    now = list(network.plugin(2).parameters())
    assert not any(torch.equal(p, value) for p, value in zip(now, moved, strict=True))
    assert torch.equal(pinrec.score(network, tastes(groups=(1, 3))), scores) is not goes_on


# 5.8.4


def test_the_trunk_s_gradient_is_the_mean_of_the_groups() -> None:
    pinrec = make(aggregation="groups")
    network, batch = trained(pinrec), tastes(groups=(1, 1, 1, 2, 3))
    assert batch.groups_B is not None

    whole = gradients(pinrec, network, batch)

    parts = [
        gradients(pinrec, network, rows_of(batch, batch.groups_B == group)) for group in (1, 2, 3)
    ]
    for name, value in whole.items():
        mean = torch.stack([part[name] for part in parts]).mean(0)
        torch.testing.assert_close(value, mean, atol=1e-7, rtol=1e-4)


def test_the_order_of_groups_does_not_matter_and_neither_does_how_many_rows_one_has() -> None:
    pinrec = make(aggregation="groups")
    network, batch = trained(pinrec), tastes()
    assert batch.groups_B is not None
    numbers = torch.arange(len(batch.groups_B))
    other_order = rows_of(batch, torch.cat([numbers[batch.groups_B == g] for g in (3, 1, 2)]))
    twice = rows_of(batch, torch.cat([numbers, numbers[batch.groups_B == 1]]))

    expected = gradients(pinrec, network, batch)

    for rows in (other_order, twice):
        for name, value in gradients(pinrec, network, rows).items():
            torch.testing.assert_close(value, expected[name], atol=1e-7, rtol=1e-4)


def test_one_group_alone_is_ordinary_training() -> None:
    rows, groups = (make(aggregation=each) for each in ("rows", "groups"))
    network, batch = trained(rows), tastes(groups=(2,))

    by_groups = gradients(groups, network, batch)

    for name, value in gradients(rows, network, batch).items():
        torch.testing.assert_close(by_groups[name], value, atol=1e-7, rtol=1e-4)


def test_the_mean_of_groups_weighs_each_group_alike() -> None:
    losses_B, groups_B = torch.tensor([1.0, 3.0, 10.0]), torch.tensor([2, 2, 5])

    assert mean_of_groups(losses_B, groups_B).item() == pytest.approx((2 + 10) / 2)


# 5.8.5


@pytest.mark.parametrize("trunk", EXPORTED)
def test_the_mean_of_what_devices_compute_is_the_cloud_s_gradient(trunk: str) -> None:
    pinrec, network, bundle = compiled(trunk, "federated")
    learner, batch = Learner(bundle, pinrec.config.learning, CPU), tastes(rows=12)
    slots = {n: v.detach().requires_grad_() for n, v in pinrec.export(network).slots.items()}
    weights = {"weights": np.ones(4, np.float32)}
    named = (
        ("event_ids", newest_first_padded(batch.history_BH)),
        ("candidate_ids", batch.candidates_BC),
        ("labels", batch.labels_BC),
    )

    sums = np.zeros_like(learner.start)
    for device in range(3):
        rows = slice(4 * device, 4 * device + 4)
        feeds = {name: value[rows].numpy() for name, value in named}
        values = learner.slots(learner.start)
        _, *found = learner._graph.run_all(learner._outputs, {**values, **feeds, **weights})
        sent = [tensor_to_proto("", gradient, Codec.F32) for gradient in found]
        sums += np.concatenate([tensor_from_proto(each).ravel() for each in sent])

    logits = pinrec.export(network).scorer(named[0][1], batch.candidates_BC, *slots.values())
    loss = nn.functional.binary_cross_entropy_with_logits(logits, batch.labels_BC)
    expected = torch.autograd.grad(loss, list(slots.values()))
    np.testing.assert_allclose(
        sums / 3, np.concatenate([each.numpy().ravel() for each in expected]), atol=1e-6
    )


def newest_first_padded(history_BH: Tensor) -> Tensor:
    """Histories, left-padded, as devices pad windows: on the right."""
    order = (history_BH == 0).to(torch.int8).argsort(dim=1, stable=True)
    return history_BH.gather(1, order)


# 5.8.6


def test_learning_moves_slots_alone_and_what_goes_up_names_no_item() -> None:
    _, _, bundle = compiled("gru4rec", "federated")
    files = dict(bundle.files)
    scorer = Scorer(bundle)
    assert scorer.learner is not None
    learned, history = (
        Learned(scorer.learner, 3, 0, LearningAccount(LearningAllowance())),
        History(30, range(1, 21)),
    )

    learned.study(history)

    assert learned.overlay is not None
    assert set(learned.overlay.slots) == set(bundle.defaults)
    assert dict(bundle.files) == files
    learned.overlay.check(bundle.manifest.slots)
    assert bundle.manifest.uplink is None
    assert not bundle.manifest.uploads


@pytest.mark.parametrize(
    ("codec", "most"), [(Codec.F32, 9_000), (Codec.F16, 4_700), (Codec.I8ROW, 3_000)]
)
def test_a_plugin_is_as_small_as_the_original_s(codec: Codec, most: int) -> None:
    plugin = Plugin(width=32, hidden=make().config.bottleneck)

    message = overlay_to_proto(Overlay("", 0, arrays(plugin.slots)), codec)

    assert sum(value.numel() for value in plugin.slots.values()) == 2_144
    assert message.ByteSize() <= most


# 5.8.7


@pytest.mark.parametrize("trunk", EXPORTED)
def test_a_device_of_every_group_scores_as_the_cloud_and_changes_group_by_its_plugin(
    trunk: str,
) -> None:
    pinrec, network, bundle = compiled(trunk)
    scorer, window = Scorer(bundle), [7, 3, 9]
    history_BH = torch.tensor([[0] * (WINDOW - 3) + window])
    batch = Batch(history_BH, torch.from_numpy(CANDIDATES)[None], torch.zeros(0))

    def on_device(overlay: Overlay | None) -> Float32Array:
        return scorer.score(scorer.manifest.features.encode_window(window), CANDIDATES, overlay)

    seen = []
    for group in (*range(1, GROUPS + 1), 1):
        own = Batch(*(batch.history_BH, batch.candidates_BC, batch.labels_BC), groups_B=one(group))
        seen.append(on_device(overlay_of(pinrec, network, group)))
        assert same(seen[-1], pinrec.score(network, own).detach().numpy()[0])
    assert same(on_device(None), pinrec.score(network, batch).detach().numpy()[0])
    assert np.array_equal(seen[0], seen[-1])
    assert np.abs(seen[0] - seen[2]).max() > 1e-2


def one(group: int) -> Tensor:
    return torch.tensor([group])


def test_a_new_trunk_leaves_plugins_as_they_are_and_their_schema_fits() -> None:
    pinrec, network, bundle = compiled("gru4rec")
    before = [overlay_of(pinrec, network, group) for group in (1, 2, 3)]
    newer, upgraded = built(pinrec), compiled("gru4rec", "federated")[2]
    newer.load_state_dict(network.state_dict())

    steps(pinrec.stages()[0], newer, 3)

    assert upgraded.files["scorer.onnx"] != bundle.files["scorer.onnx"]
    assert upgraded.manifest.slot_schema == bundle.manifest.slot_schema
    for group, old in enumerate(before, start=1):
        for name, value in overlay_of(pinrec, newer, group).slots.items():
            assert value.tobytes() == old.slots[name].tobytes()
        old.check(upgraded.manifest.slots)


def test_plugins_of_another_bottleneck_have_another_schema() -> None:
    narrow, wide = (
        {
            n: v.shape
            for n, v in make(bottleneck=size).export(built(make(bottleneck=size))).slots.items()
        }
        for size in (8, 16)
    )

    assert narrow.keys() == wide.keys()
    assert narrow != wide


# 5.8.8


@pytest.mark.parametrize("trunk", TRUNKS)
def test_where_the_second_stage_begins_nothing_jumps(trunk: str) -> None:
    pinrec = make(trunk)
    network, batch = built(pinrec), tastes()
    first, second = pinrec.stages()
    steps(first, network, 20)
    rng = torch.Generator()

    before, after = (each.scores(network, batch, rng) for each in (first, second))

    assert torch.equal(before, after)


@pytest.mark.parametrize("plugins", ["cloud", "none"])
def test_the_trunk_goes_on_at_a_tenth_of_the_rate_and_plugins_at_the_whole(plugins: str) -> None:
    pinrec = make(plugins=plugins)
    network, second = built(pinrec), pinrec.stages()[1]
    assert second.slow is not None

    optimiser = _optimiser(
        list(second.trainable(network)), list(second.slow(network)), TrainSettings(), {}
    )

    rate = TrainSettings().learning_rate
    rates = {p: group["lr"] for group in optimiser.param_groups for p in group["params"]}
    trunk, plugin = (
        {rates[p] for p in part.parameters()} for part in (network.ranker, network.plugins)
    )
    assert trunk == {0.1 * rate}
    assert plugin == ({rate} if plugins == "cloud" else set())


# 5.8.9


@pytest.mark.parametrize("trunk", TRUNKS)
def test_padding_changes_nothing_and_an_empty_window_is_scored_finitely(trunk: str) -> None:
    pinrec = make(trunk)
    network = trained(pinrec)
    candidates_BC = torch.from_numpy(CANDIDATES)[None]

    def scored(window: list[int], length: int) -> Tensor:
        events_BT = torch.tensor([[*window, *[0] * (length - len(window))]])
        found: Tensor = network(events_BT, candidates_BC, one(2))
        return found

    torch.testing.assert_close(scored([3, 4], 2), scored([3, 4], WINDOW), atol=1e-6, rtol=1e-6)
    assert scored([], WINDOW).isfinite().all()


# 5.8.10


WORLD = ActivityWorld(members=10)
SHORT = TrainSettings(epochs=4)


class Unwatched:
    """Nobody looks."""

    def on_step(self, stage: str, epoch: int, step: int, steps: int) -> None: ...

    def on_epoch(self, stage: str, record: Epoch) -> None: ...


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    return prepare(read_activity(WORLD), "user-tail", tmp_path_factory.mktemp("world") / "log")


def aucs(log: PreparedLog, folder: Path, **settings: object) -> tuple[float, float]:
    """Of a model that is trained as ever: the tail's, and the head's."""
    config = resolve("pinrec", log.items, "pool", {"pinrec": {"groups": 3, **settings}})
    found: Trained = train(load_method("pinrec", config), log, SHORT, 0, folder, Unwatched())
    moments = replay_moments(log)
    scores = score_moments(found, log, moments, age=0)
    raw = log.user_table.sort("user")["raw"].to_list()
    tail_M = np.array([int(raw[user]) < 2 * WORLD.members for user in moments.user])
    tail = np.repeat(tail_M, moments.sizes)
    return tuple(auc(scores[part], moments.labels[part]) for part in (tail, ~tail))  # type: ignore[return-value]


@pytest.mark.slow
def test_plugins_give_the_many_what_they_want_and_take_nothing_from_the_few(
    world: PreparedLog, tmp_path: Path
) -> None:
    torch.set_num_threads(1)

    plain_tail, plain_head = aucs(world, tmp_path / "plain", plugins="none")
    tail, head = aucs(world, tmp_path / "plugins")

    assert plain_tail <= 0.25
    assert tail >= 0.85
    assert head >= plain_head - 0.005


# What is sent, trained and kept under each setting.


@pytest.mark.parametrize(
    ("plugins", "grouped", "learns", "rule"),
    [
        ("cloud", True, False, "once"),
        ("federated", True, True, "every-n"),
        ("device", False, True, "never"),
        ("none", False, False, "never"),
    ],
)
def test_a_setting_says_who_has_plugins_and_who_trains_them(
    plugins: str, grouped: bool, learns: bool, rule: str
) -> None:
    pinrec = make(plugins=plugins)
    network = built(pinrec)

    exported, learner = pinrec.export(network), pinrec.learner(network)

    assert set(exported.slots) == set(network.nothing.slots)
    assert len(exported.groups) == (GROUPS if grouped else 0)
    assert pinrec.config.uplink is None
    assert pinrec.config.refresh.rule == rule
    assert (learner is not None) == learns
    assert (learner is not None and learner.spec.federation is not None) == (rule == "every-n")


def test_a_federated_bundle_has_groups_a_gradient_and_what_says_how_to_learn() -> None:
    manifest = compiled("gru4rec", "federated")[2].manifest

    assert manifest.groups is not None
    assert manifest.groups.count == GROUPS
    assert set(manifest.groups.slots) == {slot.name for slot in manifest.slots}
    assert manifest.learning is not None
    assert "grad" in manifest.graphs


def test_federated_groups_begin_with_a_plugin_that_does_nothing() -> None:
    pinrec, network, bundle = compiled("gru4rec", "federated")

    for group in (1, 2, 3):
        for name, value in overlay_of(pinrec, network, group).slots.items():
            assert np.array_equal(value, bundle.defaults[name])
    assert all(not bundle.defaults[f"plugin.{p}.up.weight"].any() for p in ("interest", "target"))


def test_who_trains_plugins_on_devices_shares_the_control_s_weights() -> None:
    digests = {
        plugins: make(plugins=plugins).config.digest
        for plugins in ("cloud", "federated", "device", "none")
    }

    assert digests["federated"] == digests["device"] == digests["none"] != digests["cloud"]
    assert make(learning={"rate": 0.5}).config.digest == digests["cloud"]


def test_a_device_finds_its_own_taste_without_a_cloud() -> None:
    """Takes items of one half; the trunk was trained on users of both."""
    spec = LearningSpec(rate=1e-2, rows=60)
    _, _, bundle = compiled("gru4rec", "federated")
    scorer, learner = Scorer(bundle), Learner(bundle, spec, CPU)
    rng = np.random.default_rng(0)
    liked = rng.integers(1, ITEMS // 2 + 1, 60)
    learned, history = (
        Learned(learner, 0, 0, LearningAccount(LearningAllowance())),
        History(100, liked[:10]),
    )
    everything = np.arange(1, ITEMS + 1)

    def gap() -> float:
        window = scorer.manifest.features.encode_window(history.window(WINDOW))
        scores = scorer.score(window, everything, learned.overlay)
        return float(scores[: ITEMS // 2].mean() - scores[ITEMS // 2 :].mean())

    before = gap()
    for event in liked[10:]:
        history.observe(Event(int(event), 0.0))
        learned.study(history)

    assert gap() > before + 0.3
