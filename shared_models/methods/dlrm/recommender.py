"""DLRM over a log: what a window, a candidate and a user say, as dense features and bags."""

# Shapes: B windows, T events in the window, C candidates, R = B * C rows, N dense features,
# M value ids, V items.

from typing import Final

import torch
from torch import Tensor, nn
from typing_extensions import override

from shared_models.layers.embedding import FieldEmbedding
from shared_models.layers.sequence import newest_windows
from shared_models.layers.tables import Bags
from shared_models.method import Facts
from shared_models.methods.dlrm.config import Config
from shared_models.methods.dlrm.network import DLRM
from shared_models.trunks.ranker import Ranker
from shared_models.trunks.trunk import Context

_RARE: Final = 0.1
"""Popularity, in that of the mean item, that is added before the logarithm."""


class CloudRanking(nn.Module):
    """The network of the cloud, and what it knows of items.

    Looked up are the window's items, its newest one, the candidate, and where the log has them the
    candidate's features and the user's.
    """

    popularity_V: Tensor
    values_VM: Tensor

    def __init__(self, config: Config, seed: int, facts: Facts | None) -> None:
        super().__init__()
        features = config.features
        self.config, self.dropout = config, nn.Dropout(config.dropout)
        specs = [spec for spec in (features.item_fields, features.profile) if spec is not None]
        self.dlrm = DLRM(config, [features.items] * 3 + [spec.values for spec in specs], seed)
        most = features.item_fields.most if features.item_fields else 1
        self.register_buffer("popularity_V", torch.zeros(features.items + 1))
        self.register_buffer("values_VM", torch.zeros(features.items + 1, most, dtype=torch.int64))
        if facts is not None:
            relative_V = facts.popularity_V / facts.popularity_V[1:].mean()
            self.popularity_V[1:] = torch.log((relative_V + _RARE) / (1 + _RARE))[1:]
        if facts is not None and features.item_fields is not None:
            self.values_VM.copy_(facts.item_fields_VM)

    @override
    def forward(
        self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, profile_BM: Tensor | None = None
    ) -> Tensor:
        """Logits (B, C)."""
        dense_RN = self.dense(event_ids_BT, candidate_ids_BC).flatten(0, 1)
        bags = self.bags(event_ids_BT, candidate_ids_BC, profile_BM)
        vectors_RTD = self.dlrm.embeddings(bags)
        # Else what is said of who does much would be loud: by the square root, as FISM (KDD 2013).
        length_B = (event_ids_BT > 0).sum(1).clamp(min=1).sqrt()
        length_R1 = length_B.repeat_interleave(candidate_ids_BC.shape[1])[:, None]
        window_R1D = (vectors_RTD[:, 0] / length_R1)[:, None]
        vectors_RTD = torch.cat([window_R1D, vectors_RTD[:, 1:]], dim=1)
        logits_R: Tensor = self.dlrm.meeting(dense_RN, self.dropout(vectors_RTD))
        return logits_R.view_as(candidate_ids_BC)

    def dense(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor) -> Tensor:
        """Five numbers for each candidate, (B, C, N).

        The candidate's popularity; mean and spread of the window's; how long the window is; how
        often the candidate is in it (the last two by log(1 + n)).
        """
        known_BT = event_ids_BT > 0
        count_B = known_BT.sum(1).clamp(min=1)
        liking_BT = self.popularity_V[event_ids_BT]
        mean_B = liking_BT.sum(1) / count_B
        away_BT = (liking_BT - mean_B[:, None]) * known_BT
        spread_B = (away_BT.square().sum(1) / count_B).sqrt()
        about_B3 = torch.stack([mean_B, spread_B, known_BT.sum(1).log1p()], dim=1)
        same_BCT = event_ids_BT[:, None] == candidate_ids_BC[..., None]
        seen_BC = (same_BCT & known_BT[:, None]).sum(-1).log1p()
        of_items_BC2 = torch.stack([self.popularity_V[candidate_ids_BC], seen_BC], dim=-1)
        about_BC3 = about_B3[:, None].expand(-1, candidate_ids_BC.shape[1], -1)
        return torch.cat([of_items_BC2, about_BC3], dim=-1)

    def bags(
        self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, profile_BM: Tensor | None
    ) -> Bags:
        """What is looked up for each of the R rows."""
        features, choice = self.config.features, candidate_ids_BC.shape[1]
        of_users = [event_ids_BT, newest_windows(event_ids_BT, 1)]
        of_items = [candidate_ids_BC.flatten()[:, None]]
        if features.item_fields is not None:
            of_items.append(self.values_VM[candidate_ids_BC].flatten(0, 1))
        if features.profile is not None:
            if profile_BM is None:
                profile_BM = event_ids_BT.new_zeros(len(event_ids_BT), features.profile.most)
            of_items.append(profile_BM.repeat_interleave(choice, dim=0))
        repeated = [ids.repeat_interleave(choice, dim=0) for ids in of_users]
        return Bags.padded([ids - 1 for ids in (*repeated, *of_items)])


class Fallback(nn.Module):
    """What a device ranks by while the cloud is away: a small trunk, and the user's features."""

    def __init__(self, config: Config, facts: Facts | None) -> None:
        super().__init__()
        profile, scale = config.features.profile, config.trunk.embedding_scale
        self.ranker = Ranker(config.trunk, config.features, facts, contexts=int(bool(profile)))
        self.profile = (
            FieldEmbedding(profile.values, config.trunk.width, scale) if profile else None
        )

    @override
    def forward(
        self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, profile_BM: Tensor | None = None
    ) -> Tensor:
        """Logits (B, C)."""
        context = None
        if self.profile is not None:
            assert profile_BM is not None  # noqa: S101 - the features name a profile
            context = Context(self.profile(profile_BM)[:, None])
        logits_BC: Tensor = self.ranker(event_ids_BT, candidate_ids_BC, context=context)
        return logits_BC


class Both(nn.Module):
    """The cloud's ranking beside the devices' own."""

    def __init__(self, config: Config, seed: int, facts: Facts | None) -> None:
        super().__init__()
        self.cloud = CloudRanking(config, seed, facts)
        self.fallback = Fallback(config, facts)
