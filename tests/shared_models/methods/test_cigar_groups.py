"""Whether cigar's prototypes find the groups that there are, and what their heads then gain."""

# Shapes: B rows, K prototypes, D width, N numbers that a head reads.

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from shared_models.layers.mlp import SlottedMLP, slotted_mlp
from shared_models.methods.cigar.method import likeness
from shared_models.methods.cigar.network import Modulator, Prototypes

WIDTH, TEMPERATURE, ROWS = 16, 0.1, 128
Draw = Callable[[Prototypes, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Crowd:
    """Users of K clusters, each with a taste of its own.

    Attributes:
        users: (B, D), what a user sends: the cluster's centre and noise.
        items: (B, D), what is shown.
        labels: (B,), whether it was taken: a matter of the cluster's taste alone.
        clusters: (B,), the user's cluster.
    """

    users: Tensor
    items: Tensor
    labels: Tensor
    clusters: Tensor

    @property
    def read(self) -> Tensor:
        """What a head reads (B, N): the item, the user, and their product."""
        return torch.cat([self.items, self.users, self.items * self.users], 1)


def crowds(groups: int, *sizes: int, seed: int = 0, noise: float = 0.15) -> list[Crowd]:
    """Crowds of one world."""
    rng = torch.Generator().manual_seed(seed)
    centres_KD, tastes_KD = functional.normalize(
        torch.randn(2, groups, WIDTH, generator=rng), dim=-1
    )

    def crowd(rows: int) -> Crowd:
        cluster_B = torch.randint(0, groups, (rows,), generator=rng)
        noise_BD = noise * torch.randn(rows, WIDTH, generator=rng)
        items_BD = torch.randn(rows, WIDTH, generator=rng)
        chance_B = torch.sigmoid(4 * (items_BD * tastes_KD[cluster_B]).sum(1))
        labels_B = (torch.rand(rows, generator=rng) < chance_B).float()
        return Crowd(centres_KD[cluster_B] + noise_BD, items_BD, labels_B, cluster_B)

    return [crowd(rows) for rows in sizes]


def purity(group_B: Tensor, crowd: Crowd) -> float:
    """Share of users who are of the cluster that most users of their group are of."""
    table_KK = np.zeros((int(group_B.max()) + 1, int(crowd.clusters.max()) + 1))
    np.add.at(table_KK, (group_B.numpy(), crowd.clusters.numpy()), 1)
    return float(table_KK.max(1).sum() / table_KK.sum())


def nearest(prototypes: Prototypes, crowd: Crowd) -> Tensor:
    """The group (B,) that serving picks for each user."""
    return prototypes.similarities(crowd.users).argmax(1)


def temperature_first(prototypes: Prototypes, near_BK: Tensor, rng: torch.Generator) -> Tensor:
    return prototypes.noisy(near_BK, rng)


def noise_first(prototypes: Prototypes, near_BK: Tensor, rng: torch.Generator) -> Tensor:
    """The original's recipe: cosines are at most 1, so that the noise decides."""
    gumbel_BK = -(-torch.rand(near_BK.shape, generator=rng).clamp(1e-9, 1 - 1e-7).log()).log()
    return (near_BK + gumbel_BK) / prototypes.temperature


def sorting_loss(prototypes: Prototypes, near_BK: Tensor, drawn_BK: Tensor) -> Tensor:
    far = (1 - (drawn_BK.softmax(1).detach() * near_BK).sum(1)).mean()
    return far + 0.1 * likeness(prototypes.directions)


class Net(torch.nn.Module):
    """A head over ready numbers; with groups, one for each."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.head = SlottedMLP((3 * WIDTH, 64, 32, 1))
        self.prototypes = Prototypes(groups, WIDTH, TEMPERATURE)
        self.modulator = Modulator(self.head.slots, WIDTH)

    def plain(self, crowd: Crowd) -> Tensor:
        return slotted_mlp(crowd.read, self.head.slots)[:, 0]

    def grouped(self, crowd: Crowd, group_B: Tensor) -> Tensor:
        heads = self.modulator(self.head.slots, self.prototypes.directions.detach())
        logits_B = torch.zeros(len(group_B))
        for group in group_B.unique().tolist():
            rows = group_B == group
            head = {name: value[group] for name, value in heads.items()}
            logits_B = logits_B.index_put((rows,), slotted_mlp(crowd.read[rows], head)[:, 0])
        return logits_B

    def served(self, crowd: Crowd) -> Tensor:
        return self.grouped(crowd, nearest(self.prototypes, crowd))


def part_of(crowd: Crowd, rows: Tensor) -> Crowd:
    return Crowd(crowd.users[rows], crowd.items[rows], crowd.labels[rows], crowd.clusters[rows])


def loss_of(net: Net, crowd: Crowd, draw: Draw | None, rng: torch.Generator) -> Tensor:
    plain = functional.binary_cross_entropy_with_logits(net.plain(crowd), crowd.labels)
    if draw is None:
        return plain
    near_BK = net.prototypes.similarities(crowd.users)
    drawn_BK = draw(net.prototypes, near_BK, rng)
    logits_B = net.grouped(crowd, drawn_BK.detach().argmax(1))
    grouped = functional.binary_cross_entropy_with_logits(logits_B, crowd.labels)
    return 2 * grouped + plain + sorting_loss(net.prototypes, near_BK, drawn_BK)


def trained(crowd: Crowd, groups: int, draw: Draw | None, epochs: int = 16, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    net, rng = Net(groups), torch.Generator().manual_seed(seed)
    net.prototypes.start(crowd.users)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(crowd.labels), generator=rng).split(ROWS):
            optimiser.zero_grad()
            loss_of(net, part_of(crowd, rows), draw, rng).backward()
            optimiser.step()
    return net


def auc(logits_B: Tensor, crowd: Crowd) -> float:
    return float(roc_auc_score(crowd.labels.numpy(), logits_B.detach().numpy()))


def sorted_alone(crowd: Crowd, groups: int, draw: Draw, seed: int) -> Prototypes:
    """Prototypes that began anywhere and learnt to sort users; there is no head."""
    torch.manual_seed(seed)
    prototypes, rng = Prototypes(groups, WIDTH, TEMPERATURE), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(prototypes.parameters(), lr=2e-2)
    for _ in range(10):
        for rows in torch.randperm(len(crowd.labels), generator=rng).split(ROWS):
            near_BK = prototypes.similarities(crowd.users[rows])
            optimiser.zero_grad()
            sorting_loss(prototypes, near_BK, draw(prototypes, near_BK, rng)).backward()
            optimiser.step()
    return prototypes


@cache
def drawn_purity(draw: Draw) -> float:
    """How pure the groups are that training draws once it is over; the mean over worlds."""
    found = []
    for seed in range(3):
        crowd, judged = crowds(5, 2000, 1000, seed=seed)
        prototypes = sorted_alone(crowd, 5, draw, seed)
        near_BK = prototypes.similarities(judged.users)
        drawn_BK = draw(prototypes, near_BK, torch.Generator().manual_seed(seed))
        found.append(purity(drawn_BK.argmax(1), judged))
    return float(np.mean(found))


def test_temperature_before_noise_draws_pure_groups_and_noise_before_temperature_does_not() -> None:
    assert drawn_purity(temperature_first) > 0.95
    assert drawn_purity(noise_first) < 0.6


@pytest.mark.parametrize(
    ("draw", "low", "high"), [(temperature_first, 0.95, 1), (noise_first, 0, 0.6)]
)
def test_what_training_draws_is_what_serving_picks_only_with_temperature_first(
    draw: Draw, low: float, high: float
) -> None:
    (crowd,) = crowds(5, 4000)
    prototypes, rng = Prototypes(5, WIDTH, TEMPERATURE), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for group in range(5):
            prototypes.vectors[group] = crowd.users[crowd.clusters == group].mean(0)

    near_BK = prototypes.similarities(crowd.users)
    drawn_B = draw(prototypes, near_BK, rng).argmax(1)

    agreed = (drawn_B == nearest(prototypes, crowd)).float().mean().item()
    assert low <= agreed <= high


@pytest.mark.parametrize("groups", [2, 5, 10])
def test_every_cluster_far_from_others_gets_its_prototype_at_the_start(groups: int) -> None:
    for seed in range(5):
        (crowd,) = crowds(groups, 1000, seed=seed, noise=0.05)
        prototypes = Prototypes(groups, WIDTH, TEMPERATURE)

        prototypes.start(crowd.users)

        nearest_B = nearest(prototypes, crowd)
        taken = [int(nearest_B[crowd.clusters == c].mode().values) for c in range(groups)]
        assert sorted(taken) == list(range(groups)), seed


def test_users_without_behaviour_are_nobody_to_start_at() -> None:
    prototypes = Prototypes(3, WIDTH, TEMPERATURE)
    before = prototypes.vectors.clone()
    users_BD = torch.zeros(8, WIDTH)

    prototypes.start(users_BD)
    unmoved = torch.equal(prototypes.vectors, before)
    users_BD[5:] = torch.eye(3, WIDTH)
    prototypes.start(users_BD)

    assert unmoved
    assert sorted(prototypes.vectors.argmax(1).tolist()) == [0, 1, 2]
    assert (prototypes.vectors.norm(dim=1) == 1).all()


def test_heads_of_groups_beat_the_plain_net_and_the_noise_first_recipe() -> None:
    crowd, judged = crowds(10, 3000, 6000)
    plain = trained(crowd, 10, None)
    ours, original = (trained(crowd, 10, draw) for draw in (temperature_first, noise_first))

    ours_auc = auc(ours.served(judged), judged)

    assert purity(nearest(ours.prototypes, judged), judged) >= 0.95
    assert ours_auc >= auc(plain.plain(judged), judged) + 0.05
    assert ours_auc >= auc(original.served(judged), judged) + 0.03
