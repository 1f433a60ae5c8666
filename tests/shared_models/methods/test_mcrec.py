"""mcrec's own contract."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from device_client.client import DeviceClient
from device_client.cloud import Identity
from device_client.scorer import Scorer
from device_client.settings import DeviceSettings
from shared_models.catalog import load_method, resolve
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import BadSetting
from shared_models.contract.events import Event
from shared_models.contract.features import encode_windows
from shared_models.contract.manifest import RefreshRule
from shared_models.contract.metrics import auc
from shared_models.contract.ranking import (
    MECHANISMS,
    Decision,
    RankedList,
    Ranking,
    Receipt,
    Wanted,
)
from shared_models.export import compile_bundle
from shared_models.layers.sequence import cut_windows
from shared_models.logs.sessions import LONGEST
from shared_models.method import Batch
from shared_models.methods.mcrec.decisions import decisions, labels
from shared_models.methods.mcrec.method import Mcrec
from shared_models.methods.mcrec.network import DeviceController, McrecNetwork, TLearner
from tests.device_client.fakes import FakeCloud

# Shapes: B rows, C candidates, G events in the uplink, M mechanisms.

ITEMS, WINDOW, CLOUD_WINDOW, ROWS = 40, 6, 12, 64
TRUNKS = ("sasrec", "gru4rec", "din", "pool")
CANDIDATES = np.arange(1, 11)
SESSION, REFRESH, DEVICE = range(3)


def make(trunk: str = "din", **settings: object) -> Mcrec:
    own = {"window": WINDOW, "cloud_window": CLOUD_WINDOW, "negatives": 10, **settings}
    sections = {"mcrec": own, "trunk": {"embedding_scale": 0.5, "dropout": 0.0}}
    mcrec = load_method("mcrec", resolve("mcrec", ITEMS, trunk, sections))
    assert isinstance(mcrec, Mcrec)
    return mcrec


def built(mcrec: Mcrec, seed: int = 0) -> McrecNetwork:
    """A model whose every weight is far from zero, as after training."""
    network = mcrec.build(seed).eval()
    assert isinstance(network, McrecNetwork)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
        for table in (network.cloud, network.device.residual):
            table.trunk.items.vectors.weight[0] = 0
            table.trunk.items.bias[0] = 0
    return network


@cache
def compiled(trunk: str = "din") -> Bundle:
    mcrec = make(trunk)
    calibration = {"gain": tuple(np.linspace(1, -1, 100).tolist())}
    return compile_bundle(mcrec, built(mcrec), "none", lambda _: calibration)


def session_rows(seed: int = 0, left: int = 3) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    length = CLOUD_WINDOW + 25
    history_BH = torch.randint(1, ITEMS + 1, (ROWS, length), generator=rng)
    none = torch.zeros(ROWS, 0)
    session = {"since_B": torch.full((ROWS,), 8), "left_B": torch.full((ROWS,), left)}
    return Batch(history_BH, none.long(), none, **session)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_padding_changes_none_of_the_three(trunk: str) -> None:
    mcrec = make(trunk)
    network = built(mcrec)
    controller = DeviceController(network.controller, network.device_items)
    candidates = torch.from_numpy(CANDIDATES)[None]
    short, long = (torch.from_numpy(encode_windows([[5, 9, 3]], n)) for n in (3, 17))
    then = (
        torch.from_numpy(encode_windows([[7, 5]], 3)),
        torch.from_numpy(encode_windows([[7, 5]], 17)),
    )

    prior = torch.randn(1, len(CANDIDATES))

    torch.testing.assert_close(
        network.cloud(short, candidates), network.cloud(long, candidates), atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(
        network.device(short, candidates, prior),
        network.device(long, candidates, prior),
        atol=1e-6,
        rtol=1e-5,
    )
    for one, other in zip(controller(short, then[0]), controller(long, then[1]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_a_controller_s_windows_are_padded_to_any_content() -> None:
    network = built(make())
    controller = DeviceController(network.controller, network.device_items)
    for items, listed in (([], []), ([3], []), (list(range(1, 13)), [3])):
        now, then = (
            torch.from_numpy(encode_windows([each], CLOUD_WINDOW)) for each in (items, listed)
        )
        assert all(torch.isfinite(output).all() for output in controller(now, then))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("known", [0, 5, CLOUD_WINDOW])
def test_the_controller_s_graph_is_the_controller(rows: int, known: int) -> None:
    mcrec, rng = make(), np.random.default_rng(known)
    network = built(mcrec)
    windows = np.zeros((2, rows, CLOUD_WINDOW), np.int64)
    windows[:, :, :known] = rng.integers(1, ITEMS + 1, (2, rows, known))
    graph = onnxruntime.InferenceSession(
        compiled().graph("controller"), providers=["CPUExecutionProvider"]
    )
    names = [port.name for port in graph.get_outputs()]

    got = graph.run(names, dict(zip(("event_ids", "refreshed_ids"), windows, strict=True)))

    expected = mcrec.controller(network).controller(*map(torch.from_numpy, windows))
    assert names == ["change", "gain", "rerank", "choice"]
    for ours, torchs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, torchs.detach().numpy(), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(got[3].sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_without_a_residual_a_device_s_probability_is_the_prior(trunk: str) -> None:
    network = make(trunk).build(0).eval()
    assert isinstance(network, McrecNetwork)
    prior = torch.tensor([0, 0.001, 0.1192, 0.5, 0.9, 1])
    events = torch.from_numpy(encode_windows([[5, 9, 3]], WINDOW))
    candidates = torch.arange(1, 7)[None]

    found = torch.sigmoid(network.device(events, candidates, torch.logit(prior)[None]))[0]

    assert torch.isfinite(found).all()
    assert (found - prior).abs().max() <= 1e-3
    assert (found.diff() > 0).all()


def test_a_device_learns_to_trust_a_prior_that_is_right() -> None:
    torch.manual_seed(0)
    network = make("pool").build(0)
    assert isinstance(network, McrecNetwork)
    optimiser = torch.optim.Adam(network.device.parameters(), lr=3e-3)
    rng = torch.Generator().manual_seed(0)

    def draw(rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        prior_BC = torch.randn(rows, 5, generator=rng) * 2
        label_BC = (torch.rand(rows, 5, generator=rng) < torch.sigmoid(prior_BC)).float()
        events = torch.randint(1, ITEMS + 1, (rows, WINDOW), generator=rng)
        return events, torch.randint(1, ITEMS + 1, (rows, 5), generator=rng), prior_BC, label_BC

    for _ in range(100):
        events, candidates, prior_BC, label_BC = draw(256)
        logits_BC = network.device(events, candidates, prior_BC)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits_BC, label_BC)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    events, candidates, prior_BC, label_BC = draw(4000)
    with torch.no_grad():
        own = network.device.eval()(events, candidates, prior_BC)
    taken = label_BC.numpy().ravel() > 0
    assert auc(own.numpy().ravel(), taken) >= auc(prior_BC.numpy().ravel(), taken) - 0.01


class RankingCloud(FakeCloud):
    """A cloud that ranks by item number and says how often it was asked."""

    async def rank(
        self, who: Identity, wanted: Wanted, events_seen: int, at: float
    ) -> tuple[RankedList, Receipt]:
        assert len(wanted.window) <= CLOUD_WINDOW
        self._check(who)
        self.wanted.append(wanted)
        items = np.array(wanted.candidates)
        return RankedList(items, items.astype(np.float32) / 10, events_seen), Receipt(1, 1, 1, 0.0)


@pytest.fixture
def settings(tmp_path: Path) -> DeviceSettings:
    return DeviceSettings(bundles=tmp_path / "bundles", deadline_s=None, connect_s=5, flush_s=5)


async def replayed(settings: DeviceSettings, items: Sequence[int]) -> tuple[list[Any], int]:
    """Decisions before each of ``items``, what the controller then said, and the cloud's count."""
    scorer, cloud = Scorer(compiled()), RankingCloud(compiled())
    device = DeviceClient(1, scorer, cloud, settings, [1])
    found, listed = [], [1]
    for place, item in enumerate(items):
        now = [1, *items[:place]][-CLOUD_WINDOW:]
        shares = scorer_shares(now, listed)
        ranking: Ranking = await device.rank(CANDIDATES)
        found.append((ranking.decision, MECHANISMS[int(np.argmax(shares))]))
        if ranking.decision is Decision.ASK_CLOUD:
            listed = now
        await device.observe(Event(item, 0.0))
    return found, len(cloud.wanted)


def scorer_shares(now: Sequence[int], then: Sequence[int]) -> np.ndarray:
    network = built(make())
    windows = (torch.from_numpy(encode_windows([each], CLOUD_WINDOW)) for each in (now, then))
    return make().controller(network).controller(*windows)[3][0].detach().numpy()


async def test_a_device_does_what_is_likeliest_and_asks_exactly_then(
    settings: DeviceSettings,
) -> None:
    argmax = settings.model_copy(update={"refresh": RefreshRule(rule="learnt", threshold=0)})
    items = np.random.default_rng(0).integers(1, ITEMS + 1, 60).tolist()

    found, asked = await replayed(argmax, items)

    does = {"session": Decision.KEEP, "refresh": Decision.ASK_CLOUD, "device": Decision.SCORE}
    assert found[0][0] is Decision.ASK_CLOUD
    assert [decision for decision, _ in found[1:]] == [does[said] for _, said in found[1:]]
    assert {decision for decision, _ in found} == set(does.values())
    assert asked == sum(decision is Decision.ASK_CLOUD for decision, _ in found)


async def test_a_dearer_refresh_is_asked_for_less_and_an_infinite_one_never(
    settings: DeviceSettings,
) -> None:
    items = np.random.default_rng(1).integers(1, ITEMS + 1, 60).tolist()

    counts = []
    for cost in (-5.0, -0.5, 0.0, 0.5, 1e9):
        rule = RefreshRule(rule="learnt", threshold=cost)
        _, asked = await replayed(settings.model_copy(update={"refresh": rule}), items)
        counts.append(asked)

    assert all(dear <= cheap for cheap, dear in pairwise(counts))
    assert counts[-1] == 1  # the session's list
    assert counts[0] == len(items)


def learnt(outcomes: Any, rows: int = 4000, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """What a T-learner expects after it saw each mechanism's outcomes, and what is true."""
    torch.manual_seed(0)
    learner, rng = TLearner(3, 32), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(learner.parameters(), lr=5e-3)
    features = torch.rand(rows, 3, generator=rng)
    true_BM = outcomes(features)
    seen_BM = true_BM + noise * torch.randn(true_BM.shape, generator=rng)
    for _ in range(600):
        batch = torch.randint(0, rows, (256,), generator=rng)
        loss = torch.nn.functional.mse_loss(learner(features[batch]), seen_BM[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return learner(features), true_BM


def test_a_t_learner_labels_as_one_who_knows_the_outcomes() -> None:
    def outcomes(x: Tensor) -> Tensor:
        return torch.stack([0.6 + 0 * x[:, 0], 0.9 - 0.6 * x[:, 1], 0.3 + 0.5 * x[:, 2]], dim=-1)

    expected_BM, true_BM = learnt(outcomes)

    agree = labels(expected_BM, 0.05, 0.1).argmax(-1) == labels(true_BM, 0.05, 0.1).argmax(-1)
    assert agree.float().mean() >= 0.9


def test_where_mechanisms_do_alike_a_refresh_that_costs_is_never_the_label() -> None:
    expected_BM, _ = learnt(lambda x: (0.5 + 0.2 * x[:, :1]).expand(-1, 3), noise=0.02)

    assert (labels(expected_BM, 0.02, 0.1).argmax(-1) != REFRESH).all()


def test_a_higher_cost_moves_labels_away_from_refreshes() -> None:
    outcomes_BM = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))

    rates = [labels(outcomes_BM, cost, 0.1)[:, REFRESH].mean() for cost in (0, 0.1, 0.3, 1e9)]

    assert all(dear < cheap for cheap, dear in pairwise(rates))
    assert rates[-1] == 0


def test_smooth_labels_sum_to_one() -> None:
    outcomes_BM = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(labels(outcomes_BM, 0.1, 0.05).sum(-1), torch.ones(20))


def test_decision_data_are_the_same_for_the_same_seed() -> None:
    mcrec = make()
    network, batch = built(mcrec), session_rows()

    one, again, other = (
        decisions(network, mcrec.config, batch, torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )

    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.outcomes_BM, other.outcomes_BM)


def test_outcomes_are_shares_of_drawn_items_below_what_was_taken() -> None:
    """Counted by hand for one row, from the scores of each mechanism."""
    mcrec = make(horizon=2, negatives=7)
    network, batch = built(mcrec), session_rows(left=2)

    found = decisions(network, mcrec.config, batch, torch.Generator().manual_seed(0))

    rng = torch.Generator().manual_seed(0)
    age = int(1 + (torch.rand(ROWS, generator=rng) * 8).long()[0])
    drawn = torch.randint(1, ITEMS + 1, (ROWS, 2, 7), generator=rng)[0]
    history = batch.history_BH[0].tolist()
    taken, past = history[-2:], history[:-2]

    def window(items: list[int], length: int) -> Tensor:
        return torch.from_numpy(encode_windows([items], length))

    def share(scores: Tensor) -> float:
        taken, others = scores[0, 0], scores[0, 1:]
        return float(((taken > others) + 0.5 * (taken == others)).mean())

    by_hand = np.zeros(3)
    listed = window(past[: len(past) - age], CLOUD_WINDOW)
    for place in range(2):
        candidates = torch.tensor([[taken[place], *drawn[place].tolist()]])
        kept = network.cloud(listed, candidates)
        fresh = network.cloud(window(past, CLOUD_WINDOW), candidates)
        own = network.device(window(past + taken[:place], WINDOW), candidates, kept)
        by_hand += [share(scores) / 2 for scores in (kept, fresh, own)]
    np.testing.assert_allclose(found.outcomes_BM[0].numpy(), by_hand, atol=1e-6)
    assert found.listed_ids_BG[0].tolist() == listed[0].tolist()


def test_a_session_that_ends_sooner_counts_its_own_exposures_only() -> None:
    mcrec = make(horizon=5)
    network = built(mcrec)

    def outcomes(batch: Batch) -> Tensor:
        rng = torch.Generator().manual_seed(0)
        return decisions(network, mcrec.config, batch, rng).outcomes_BM

    one = session_rows(left=1)
    assert set((outcomes(one) * 10 * 2).round().unique().tolist()) <= set(range(21))


@pytest.mark.parametrize("trunk", TRUNKS)
def test_what_runs_on_the_device_is_smaller_than_what_runs_in_the_cloud(trunk: str) -> None:
    mcrec = load_method("mcrec", resolve("mcrec", 1000, trunk, {}))
    assert isinstance(mcrec, Mcrec)

    network = built(mcrec)
    controller = DeviceController(network.controller, network.device_items)
    parts = {"cloud": network.cloud, "device": network.device, "controller": controller}
    counted = {
        name: sum(each.numel() for each in (*part.parameters(), *part.buffers()))
        for name, part in parts.items()
    }

    assert counted["controller"] < counted["device"]
    assert counted["controller"] + counted["device"] < counted["cloud"]


@pytest.mark.parametrize(("window", "cloud_window"), [(80, 12), (6, 50)])
def test_training_reads_enough_for_the_windows_of_both_rankers(
    window: int, cloud_window: int
) -> None:
    config = make(window=window, cloud_window=cloud_window, horizon=4).config
    history = torch.arange(1, config.history + 1)[None]

    now, oldest = (
        cut_windows(history, length, LONGEST + config.horizon) for length in (window, cloud_window)
    )

    assert now.shape == (1, window)
    assert now.all()
    assert oldest.all()


def test_a_prior_in_a_log_is_of_the_part_that_learns_from_a_table_alone() -> None:
    rows, candidates = session_rows(), torch.from_numpy(CANDIDATES).expand(ROWS, -1)
    plain, told = (
        replace(rows, candidates_BC=candidates, prior_BC=prior)
        for prior in (None, torch.randn(ROWS, len(CANDIDATES)))
    )

    scored = {}
    for part in ("all", "device"):
        mcrec = make(part=part)
        network = built(mcrec)
        scored[part] = [mcrec.score(network, batch, age=3) for batch in (plain, told)]

    assert torch.equal(*scored["all"])
    assert not torch.equal(*scored["device"])


def test_widths_that_do_not_grow_towards_the_cloud_are_refused() -> None:
    with pytest.raises(BadSetting, match="must grow"):
        resolve("mcrec", ITEMS, "din", {"mcrec": {"device_width": 64}})


def test_a_refresh_costs_its_bytes_and_its_wait() -> None:
    free, dear = make(), make(prices={"kib": 0.01, "second": 0.1, "seconds": 0.2})

    assert free.config.refresh_cost == 0
    size = 2 * (CLOUD_WINDOW + 100) + 2 * 100
    assert dear.config.refresh_cost == pytest.approx(0.01 * size / 1024 + 0.02)
