"""longview: the cloud looks further back than the device, and says so in a bias of its head."""

# Shapes: B rows, T events in the window, G events in the uplink, C candidates, O bias, H history.

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from shared_models.layers.sequence import cut_windows, mean_known
from shared_models.method import Batch, Facts, Personalization, ScorerExport, Stage, Uplinks
from shared_models.methods.longview.config import Config
from shared_models.trunks.ranker import Ranker, SlottedScorer

SLOT = "head.0.bias"


class Network(nn.Module):
    """A ranker, and a map from long behaviour to the bias of its head."""

    def __init__(self, config: Config, facts: Facts | None) -> None:
        super().__init__()
        self.ranker = Ranker(config.trunk, config.features, facts)
        width = self.ranker.head.slots[SLOT].numel()
        self.told = nn.Linear(config.trunk.width, width, bias=False)

    def bias(self, uplink_BG: Tensor) -> Tensor:
        """The slot (B, O); the default for a user without behaviour."""
        seen_BGD = self.ranker.trunk.embed_history(uplink_BG)
        moved_BO: Tensor = self.told(mean_known(seen_BGD, uplink_BG))
        return self.ranker.head.slots[SLOT] + moved_BO

    @override
    def forward(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, bias_BO: Tensor) -> Tensor:
        head = {**self.ranker.head.slots, SLOT: bias_BO}
        logits_BC: Tensor = self.ranker(event_ids_BT, candidate_ids_BC, head)
        return logits_BC


class Longview:
    """Trained with biases of every age that devices will see."""

    name = "longview"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, seed: int, facts: Facts | None = None) -> nn.Module:
        """A fresh `Network`; chance elsewhere is left alone."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Network(self.config, facts)

    def stages(self) -> Sequence[Stage]:
        """One stage over every parameter."""
        return [Stage("joint", nn.Module.parameters, self._loss, self._drawn)]

    def score(self, model: nn.Module, batch: Batch, age: Tensor | int = 0) -> Tensor:
        """Logits (B, C) with biases that are ``age`` events old."""
        assert isinstance(model, Network)
        bias_BO = model.bias(cut_windows(batch.history_BH, self.config.looks_back, age))
        windows_BT = cut_windows(batch.history_BH, self.config.features.window)
        logits_BC: Tensor = model(windows_BT, batch.candidates_BC, bias_BO)
        return logits_BC

    def personalize(self, model: nn.Module, uplinks: Uplinks) -> Personalization:
        """What the cloud answers: a bias for each uplink."""
        assert isinstance(model, Network)
        uplink_BG = torch.from_numpy(uplinks.items_BN).to(model.told.weight.device)
        with torch.inference_mode():
            return Personalization({SLOT: model.bias(uplink_BG).cpu().numpy()})

    def export(self, model: nn.Module) -> ScorerExport:
        """What devices run: the ranker, with one slot."""
        assert isinstance(model, Network)
        default = {SLOT: model.ranker.head.slots[SLOT]}
        return ScorerExport(SlottedScorer(model.ranker, [SLOT]), default)

    def _loss(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        logits_BC = self._drawn(model, batch, rng)
        return functional.binary_cross_entropy_with_logits(logits_BC, batch.labels_BC)

    def _drawn(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Logits with an age drawn for each row, as in service."""
        rows = len(batch.history_BH)
        ages_B = torch.randint(0, self.config.max_lag + 1, (rows,), generator=rng)
        return self.score(model, batch, ages_B.to(batch.history_BH.device))


METHOD = Longview
