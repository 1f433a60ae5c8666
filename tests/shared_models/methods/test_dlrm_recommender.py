"""DLRM over a log: what it reads, what its stages move, and what a device makes of it."""

import numpy as np
import pytest
import torch
from torch import nn

from device_client.client import DeviceClient
from device_client.scorer import Scorer
from device_client.settings import DeviceSettings
from shared_models.catalog import load_method, resolve
from shared_models.contract.errors import BadSetting
from shared_models.contract.features import FieldSpec, LogFields
from shared_models.contract.ranking import Decision, Source
from shared_models.export import compile_bundle
from shared_models.method import Batch, Facts
from shared_models.methods.dlrm.method import Dlrm
from tests.device_client.fakes import FakeCloud

ITEMS = 8
FIELDS = LogFields(FieldSpec(values=4, most=2), FieldSpec(values=3, most=1))


def method(**settings: object) -> Dlrm:
    made: Dlrm = load_method("dlrm", resolve("dlrm", ITEMS, "pool", {"dlrm": settings}, FIELDS))
    return made


def facts() -> Facts:
    popularity_V = torch.tensor([0, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0])
    values_VM = torch.randint(0, 5, (ITEMS + 1, 2), generator=torch.Generator().manual_seed(0))
    return Facts(popularity_V, values_VM)


def model() -> nn.Module:
    return method().build(0, facts()).eval()


def test_dense_features_tell_of_popularity_length_and_repetition() -> None:
    cloud = model().cloud
    liking = cloud.popularity_V

    dense = cloud.dense(torch.tensor([[1, 2, 1, 0], [0, 0, 0, 0]]), torch.tensor([[1, 8], [8, 0]]))

    known = liking[torch.tensor([1, 2, 1])]
    about = [known.mean(), known.std(correction=0), np.log(4)]
    wanted = [[[liking[1], np.log(3), *about], [liking[8], 0, *about]]]
    nothing = [0.0, 0.0, 0.0]
    wanted += [[[liking[8], 0, *nothing], [0.0, 0, *nothing]]]
    np.testing.assert_allclose(dense, np.array(wanted, np.float32), atol=1e-6)
    assert liking[1] > liking[3] > liking[8]


def test_padding_unknown_items_and_no_behaviour_are_no_reason_to_fail() -> None:
    dlrm, both = method(), model()
    short, long = np.array([[3, 5]]), np.array([[3, 5, 0, 0, 0]])
    candidates = np.array([[1, 0, 8]])

    scores = [dlrm.rank(both, window, candidates) for window in (short, long)]
    empty = dlrm.rank(both, np.zeros((1, 4), np.int64), candidates)

    np.testing.assert_array_equal(*scores)
    assert np.isfinite(scores[0]).all()
    assert np.isfinite(empty).all()


def test_who_the_user_is_counts_in_the_cloud_and_on_the_device() -> None:
    dlrm, both = method(), model()
    window, candidates = np.array([[3, 5]]), np.array([[1, 2]])

    scores = [dlrm.rank(both, window, candidates, np.array([[value]])) for value in (0, 1, 3)]
    own = [
        both.fallback(
            torch.from_numpy(window), torch.from_numpy(candidates), torch.tensor([[value]])
        )
        for value in (1, 3)
    ]

    np.testing.assert_array_equal(dlrm.rank(both, window, candidates), scores[0])
    assert not np.allclose(scores[1], scores[2])
    assert not torch.allclose(*own)


def test_neither_stage_moves_what_the_other_one_trained() -> None:
    dlrm, both = method(), model()
    history_BH = torch.randint(1, ITEMS + 1, (16, 50))
    labels = torch.tensor([[1.0, 0.0]]).repeat(16, 1)
    batch = Batch(
        history_BH, torch.randint(1, ITEMS + 1, (16, 2)), labels, torch.ones(16, 1).long()
    )
    stages = dlrm.stages()

    for stage, part, other in zip(
        stages, ("cloud", "fallback"), ("fallback", "cloud"), strict=True
    ):
        both.zero_grad()
        stage.loss(both, batch, torch.Generator()).backward()

        assert {id(p) for p in stage.trainable(both)} == {
            id(p) for p in both.get_submodule(part).parameters()
        }
        assert all(
            p.grad is None or not p.grad.any() for p in both.get_submodule(other).parameters()
        )


def test_a_log_gives_five_dense_features() -> None:
    with pytest.raises(BadSetting, match="a log gives 5 dense features, and bottom begins with 13"):
        method(bottom="13-8-4")


async def test_a_device_ranks_by_itself_while_the_cloud_is_away() -> None:
    dlrm, both = method(), model()
    bundle = compile_bundle(dlrm, both, log_hash="none")
    cloud = FakeCloud(bundle)
    cloud.away = True
    device = DeviceClient(1, Scorer(bundle), cloud, DeviceSettings(), [3, 5], profile=[2])

    ranking = await device.rank([7, 1, 2])

    own = both.fallback(torch.tensor([[3, 5]]), torch.tensor([[7, 1, 2]]), torch.tensor([[2]]))
    assert ranking.source is Source.DEFAULT_WEIGHTS
    assert ranking.decision is Decision.ASK_CLOUD
    np.testing.assert_allclose(ranking.scores, own[0].detach().numpy(), atol=1e-5)
