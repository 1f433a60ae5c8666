"""MCRec's networks: two rankers that share nothing but a prior, and what chooses between them."""

# Shapes: B rows, G events in the uplink, T in the device's window, C candidates, D width, W width
# of the controller's item vectors, F of what is seen of two windows, M mechanisms.

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from shared_models.contract.ranking import MECHANISMS
from shared_models.layers.mlp import MLP
from shared_models.layers.sequence import lengths, mean_known, recency
from shared_models.logs.sessions import LONGEST
from shared_models.method import Facts
from shared_models.methods.mcrec.config import Config
from shared_models.trunks.ranker import Ranker

SURE: Final = 9.21
"""Largest logit of a prior that counts: a probability of 0.9999."""
SESSION, REFRESH, DEVICE = range(len(MECHANISMS))
_SEEN: Final = 6
_FEATURES: Final = _SEEN * (_SEEN - 1) // 2 + 1
_FEW: Final = 3
_TINY: Final = 1e-6


class DeviceRanker(nn.Module):
    """ORec: the cloud's prior and a small ranker's residual, added as logits.

    The residual is zero at the start, so that what is learned is what the prior lacks.
    """

    def __init__(self, config: Config, facts: Facts | None = None) -> None:
        super().__init__()
        self.residual = Ranker(config.device_trunk, config.features, facts)
        last = self.residual.head.layers[-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    @override
    def forward(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, prior_BC: Tensor) -> Tensor:
        """Logits (B, C) for logits of the cloud (B, C); 0 where it said nothing."""
        residual_BC: Tensor = self.residual(event_ids_BT, candidate_ids_BC)
        return prior_BC.clamp(-SURE, SURE) + residual_BC


class SeenWindows(nn.Module):
    """What a controller sees of the window now and of that which the list was made for.

    How alike, as cosines, are the newest item, the few newest ones, what is new, and all of the
    window; the few newest when the list was made, which say what it is about, and all of that
    window; and how much is new. Not what they are: a change of mind looks alike for all topics, so
    that little data tell what it is worth.
    """

    @override
    def forward(
        self, items_VD: Tensor, event_ids_BG: Tensor, listed_ids_BG: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Features (B, F) and change (B,), 1 - the cosine of both windows' means."""
        listed_BGG = event_ids_BG[:, :, None] == listed_ids_BG[:, None, :]
        new_BG = event_ids_BG * ~listed_BGG.any(-1)
        seen = [
            _latest(event_ids_BG, 1),
            _latest(event_ids_BG, _FEW),
            new_BG,
            event_ids_BG,
            _latest(listed_ids_BG, _FEW),
            listed_ids_BG,
        ]
        means_BSD = torch.stack([mean_known(items_VD[ids_BG], ids_BG) for ids_BG in seen], dim=1)
        unit_BSD = functional.normalize(means_BSD, dim=-1, eps=_TINY)
        cosines_BSS = unit_BSD @ unit_BSD.transpose(1, 2)
        pairs_BF = cosines_BSS.flatten(1)[:, self.pairs]
        share_B1 = lengths(new_BG)[:, None] / LONGEST
        change_B = 1 - cosines_BSS[:, 3, 5]
        return torch.cat([pairs_BF, share_B1], dim=-1), change_B

    pairs: Tensor

    def __init__(self) -> None:
        super().__init__()
        first, second = torch.triu_indices(_SEEN, _SEEN, 1)
        self.register_buffer("pairs", first * _SEEN + second, persistent=False)


def _latest(event_ids_BG: Tensor, count: int) -> Tensor:
    """Right-padded windows of which only the ``count`` newest items are left: int64 (B, G)."""
    ahead_BG = recency(event_ids_BG, event_ids_BG.shape[1] + 1)
    return event_ids_BG * (ahead_BG < count)


class MetaController(nn.Module):
    """Chooses among the mechanisms, from vectors of items that are a projection of ORec's.

    Its own data are few, so what tells items apart is not learned from them.
    """

    def __init__(self, width: int, config: Config) -> None:
        super().__init__()
        self.project = nn.Linear(width, config.controller_width, bias=False)
        self.seen = SeenWindows()
        self.layers = MLP((_FEATURES, config.hidden, len(MECHANISMS)))

    @override
    def forward(self, items_VD: Tensor, event_ids_BG: Tensor, listed_ids_BG: Tensor) -> Tensor:
        """Logits (B, M), in the order of `MECHANISMS`."""
        seen_BF, _ = self.seen(self.project(items_VD), event_ids_BG, listed_ids_BG)
        logits_BM: Tensor = self.layers(seen_BF)
        return logits_BM


class DeviceController(nn.Module):
    """What a device runs of a `MetaController`: the projected items as its only table."""

    items_VW: Tensor

    def __init__(self, controller: MetaController, items_VD: Tensor) -> None:
        super().__init__()
        self.register_buffer("items_VW", controller.project(items_VD).detach())
        self.seen, self.layers = controller.seen, controller.layers

    @override
    def forward(
        self, event_ids_BG: Tensor, listed_ids_BG: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Change, gain and rerank (B,), and the shares of `MECHANISMS` (B, M).

        Gain is the logit of a refresh over the better one of the others, rerank that of the device
        over the session's list.
        """
        seen_BF, change_B = self.seen(self.items_VW, event_ids_BG, listed_ids_BG)
        logits_BM = self.layers(seen_BF)
        rerank_B = logits_BM[:, DEVICE] - logits_BM[:, SESSION]
        others_B = logits_BM[:, SESSION] + rerank_B.clamp(min=0)
        return change_B, logits_BM[:, REFRESH] - others_B, rerank_B, torch.softmax(logits_BM, -1)


class TLearner(nn.Module):
    """One network for each mechanism: what it would bring, whatever the others do.

    Künzel et al., Metalearners for estimating heterogeneous treatment effects (PNAS 2019).
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.outcomes = nn.ModuleList(MLP((features, hidden, 1)) for _ in MECHANISMS)

    @override
    def forward(self, features_BF: Tensor) -> Tensor:
        """Expected outcomes (B, M)."""
        return torch.cat([outcome(features_BF) for outcome in self.outcomes], dim=-1)


class McrecNetwork(nn.Module):
    """All of it, as it is trained."""

    def __init__(self, config: Config, facts: Facts | None = None) -> None:
        super().__init__()
        self.cloud = Ranker(config.trunk, config.cloud_features, facts)
        self.device = DeviceRanker(config, facts)
        self.seen = SeenWindows()
        self.learner = TLearner(_FEATURES, config.hidden)
        self.controller = MetaController(config.device_width, config)

    def expected(self, event_ids_BG: Tensor, listed_ids_BG: Tensor) -> Tensor:
        """What the learner expects of each mechanism (B, M), from the cloud's vectors of items."""
        items_VD = self.cloud.trunk.items.table.detach()
        seen_BF, _ = self.seen(items_VD, event_ids_BG, listed_ids_BG)
        expected_BM: Tensor = self.learner(seen_BF)
        return expected_BM

    def chosen(self, event_ids_BG: Tensor, listed_ids_BG: Tensor) -> Tensor:
        """The controller's logits (B, M)."""
        logits_BM: Tensor = self.controller(self.device_items, event_ids_BG, listed_ids_BG)
        return logits_BM

    @property
    def device_items(self) -> Tensor:
        """The device ranker's vectors of items (V + 1, D), as they are."""
        return self.device.residual.trunk.items.table.detach()
