"""A ranker over features, an aggregation of neighbours' vectors, prototypes and their heads."""

# Shapes: B rows, T events in the window, L events that are pooled, C candidates, W neighbours,
# M value ids, K prototypes, D width.

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from shared_models.contract.events import PAD
from shared_models.layers.embedding import FieldEmbedding
from shared_models.layers.groups import by_group
from shared_models.layers.sequence import mean_known
from shared_models.method import Facts
from shared_models.methods.cigar.config import Config
from shared_models.trunks.ranker import Ranker
from shared_models.trunks.trunk import Context, Trunk

NEIGHBOURS = "neighbours"


class Exchange(nn.Module):
    """What neighbours' vectors say: CD-GNN without the centre's own vector.

    Every layer's mean over the neighbours counts alike.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)  # noqa: S101 - as made above
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    @override
    def forward(self, others_BWD: Tensor, known_BW: Tensor) -> Tensor:
        """Vectors (B, D); zero where no neighbour is known."""
        known_BW1 = known_BW[..., None].to(others_BWD.dtype)
        means_BD = []
        for layer in self.layers:
            others_BWD = torch.tanh(layer(others_BWD))
            means_BD.append((others_BWD * known_BW1).sum(1) / known_BW1.sum(1).clamp(min=1))
        heard_BD: Tensor = self.norm(torch.stack(means_BD).mean(0))
        return heard_BD * known_BW.any(1, keepdim=True)


class Prototypes(nn.Module):
    """K directions that users are sorted by."""

    def __init__(self, groups: int, width: int, temperature: float) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(groups, width))
        self.temperature = temperature

    @property
    def directions(self) -> Tensor:
        """The prototypes, each of length 1: (K, D)."""
        return functional.normalize(self.vectors, dim=-1)

    def similarities(self, shared_BD: Tensor) -> Tensor:
        """Cosines (B, K) with each prototype; zeros for a user without behaviour."""
        return functional.normalize(shared_BD.detach(), dim=-1) @ self.directions.T

    def noisy(self, similarities_BK: Tensor, rng: torch.Generator) -> Tensor:
        """Logits (B, K) of a random choice; temperature first, or the noise would decide alone."""
        uniform_BK = torch.rand(similarities_BK.shape, generator=rng).clamp(1e-9, 1 - 1e-7)
        gumbel_BK = -(-uniform_BK.log()).log()
        return similarities_BK / self.temperature + gumbel_BK.to(similarities_BK.device)

    def start(self, shared_BD: Tensor) -> None:
        """Begin where the data are: users who are far from each other, farthest first."""
        users_BD = functional.normalize(shared_BD.detach(), dim=-1)
        users_BD = users_BD[users_BD.norm(dim=-1) > 0]
        if not len(users_BD):
            return
        chosen = [users_BD[0]]
        while len(chosen) < len(self.vectors):
            nearest_B = (users_BD @ torch.stack(chosen).T).amax(1)
            chosen.append(users_BD[int(nearest_B.argmin())])
        with torch.no_grad():
            self.vectors.copy_(torch.stack(chosen))


class Modulator(nn.Module):
    """Scales every weight of a head by what a prototype says: ``(1 + tanh(A q + a)) W``."""

    def __init__(self, slots: Mapping[str, Tensor], width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {_key(name): nn.Linear(width, value.numel()) for name, value in slots.items()}
        )
        for layer in self.layers.values():
            assert isinstance(layer, nn.Linear)  # noqa: S101 - as made above
            nn.init.zeros_(layer.bias)

    @override
    def forward(self, slots: Mapping[str, Tensor], directions_KD: Tensor) -> dict[str, Tensor]:
        """Slot values (K, *shape), one set for each prototype."""
        return {
            name: value
            * (1 + torch.tanh(self.layers[_key(name)](directions_KD)).reshape(-1, *value.shape))
            for name, value in slots.items()
        }


class CigarNetwork(nn.Module):
    """A `Ranker` with up to two contexts, who the user is and what neighbours say."""

    def __init__(self, config: Config, facts: Facts | None = None) -> None:
        super().__init__()
        self.config, width = config, config.trunk.width
        profile = config.features.profile
        contexts = (profile is not None) + config.exchange
        self.ranker = Ranker(config.trunk, config.features, facts, contexts)
        scale = config.trunk.embedding_scale
        self.profile = FieldEmbedding(profile.values, width, scale) if profile else None
        self.exchange = Exchange(width, config.layers) if config.exchange else None
        self.prototypes = self.modulator = None
        if config.prototypes:
            self.prototypes = Prototypes(config.groups, width, config.temperature)
            self.modulator = Modulator(self.ranker.head.slots, width)

    def shared(self, event_ids_BL: Tensor) -> Tensor:
        """What a device lets others know of its newest events, right-padded: (B, D)."""
        return mean_known(self.ranker.trunk.embed_history(event_ids_BL), event_ids_BL)

    def pooled(self, event_ids: Tensor) -> Tensor:
        """`shared` of many histories (..., L) at once, and without a gradient: (..., D)."""
        trunk = self.ranker.trunk
        with torch.no_grad():
            items = torch.arange(trunk.items.vectors.num_embeddings, device=event_ids.device)
            training = trunk.training
            table_VD = trunk.eval().embed_history(items)
            trunk.train(training)
            found_RD = functional.embedding_bag(
                event_ids.flatten(0, -2), table_VD, mode="mean", padding_idx=PAD
            )
        return found_RD.reshape(*event_ids.shape[:-1], -1)

    def heads(self) -> dict[str, Tensor]:
        """The head of each group, slot values (K, *shape)."""
        assert self.prototypes is not None  # noqa: S101 - only with prototypes are there groups
        assert self.modulator is not None  # noqa: S101 - which have heads
        # Prototypes follow users, not the loss.
        directions_KD = self.prototypes.directions.detach()
        heads: dict[str, Tensor] = self.modulator(self.ranker.head.slots, directions_KD)
        return heads

    def read(
        self,
        event_ids_BT: Tensor,
        candidate_ids_BC: Tensor,
        profile_BM: Tensor | None,
        heard_BD: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """What a head reads."""
        context = context_of(self.profile, profile_BM, heard_BD)
        return self.ranker.trunk.before_head(event_ids_BT, candidate_ids_BC, context)

    def through_groups(self, read: Sequence[Tensor], group_B: Tensor) -> Tensor:
        """Logits (B, C), each row through the head of its group, counted from 0."""
        heads = self.heads()

        def grouped(group: int, rows_R: Tensor) -> Tensor:
            head = {name: value[group] for name, value in heads.items()}
            return self.ranker.trunk.through_head([each[rows_R] for each in read], head)

        return by_group(group_B, grouped)


def context_of(
    embedding: FieldEmbedding | None, profile_BM: Tensor | None, heard_BD: Tensor | None
) -> Context | None:
    """Who the user is beside what neighbours say; None where there is neither."""
    vectors = []
    if embedding is not None:
        assert profile_BM is not None  # noqa: S101 - the features name a profile
        vectors.append(embedding(profile_BM))
    if heard_BD is not None:
        vectors.append(heard_BD)
    return Context(torch.stack(vectors, 1)) if vectors else None


class ExchangingScorer(nn.Module):
    """What a device runs: window, candidates, and its slots.

    Args:
        network: trained.
        names: of the slots.
    """

    def __init__(self, network: CigarNetwork, names: Sequence[str]) -> None:
        super().__init__()
        self.ranker, self.profile, self.names = network.ranker, network.profile, tuple(names)

    @override
    def forward(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, *slots: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.scored(event_ids_BT, candidate_ids_BC, None, slots)

    def scored(
        self,
        event_ids_BT: Tensor,
        candidate_ids_BC: Tensor,
        profile_BM: Tensor | None,
        values: Sequence[Tensor],
    ) -> Tensor:
        """Logits (B, C)."""
        slots = dict(zip(self.names, values, strict=True))
        heard_D = slots.pop(NEIGHBOURS, None)
        rows = event_ids_BT.shape[0]
        heard_BD = None if heard_D is None else heard_D[None].expand(rows, -1)
        context = context_of(self.profile, profile_BM, heard_BD)
        logits_BC: Tensor = self.ranker(event_ids_BT, candidate_ids_BC, slots or None, context)
        return logits_BC


class ProfiledScorer(ExchangingScorer):
    """The same for models that also read who the user is."""

    @override
    def forward(  # type: ignore[override]
        self,
        event_ids_BT: Tensor,
        candidate_ids_BC: Tensor,
        profile_BM: Tensor,
        *slots: Tensor,
    ) -> Tensor:
        return self.scored(event_ids_BT, candidate_ids_BC, profile_BM, slots)


class SharedVector(nn.Module):
    """What a device runs before it asks."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    @override
    def forward(self, event_ids_BL: Tensor) -> tuple[Tensor, ...]:
        """The shared vector (B, D)."""
        return (mean_known(self.trunk.embed_history(event_ids_BL), event_ids_BL),)


def _key(slot: str) -> str:
    return slot.replace(".", "_")
