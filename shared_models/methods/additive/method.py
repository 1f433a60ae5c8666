"""additive: the control for DUET, as large and as well informed, but nothing is generated."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.layers.sequence import cut_windows
from shared_models.method import Batch, Facts, Personalization, ScorerExport, Stage, Uplinks
from shared_models.methods.additive.config import Config
from shared_models.methods.additive.network import SLOT, AdditiveNetwork
from shared_models.trunks.ranker import SlottedScorer


class Additive:
    """Trunk, encoder and a static network, trained as DUET is."""

    name = "additive"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, seed: int, facts: Facts | None = None) -> nn.Module:
        """A fresh `AdditiveNetwork`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return AdditiveNetwork(self.config, facts)

    def stages(self) -> Sequence[Stage]:
        """One stage over every parameter."""
        return [Stage("joint", _parameters, self._loss, self._served_scores)]

    def score(self, model: nn.Module, batch: Batch, age: int = 0) -> Tensor:
        """Logits (B, C) with every overlay ``age`` events old."""
        network = _network(model)
        return self._ranked(network, batch, self._offset(network, batch, age))

    def personalize(self, model: nn.Module, uplinks: Uplinks) -> Personalization:
        """The first layer's bias for each uplink."""
        network = _network(model)
        device = next(network.parameters()).device
        with torch.inference_mode():
            offset_BO = network.offset(torch.from_numpy(uplinks.items_BN).to(device))
            bias_BO = network.ranker.head.slots[SLOT] + offset_BO
        return Personalization({SLOT: bias_BO.cpu().numpy()})

    def export(self, model: nn.Module) -> ScorerExport:
        """The ranker with one slot; encoder and static network stay in the cloud."""
        ranker = _network(model).ranker
        return ScorerExport(SlottedScorer(ranker, [SLOT]), {SLOT: ranker.head.slots[SLOT]})

    def _loss(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        network = _network(model)
        offset_BO = self._offset(network, batch, self._draw_ages(batch, rng))
        kept_B1 = torch.rand(len(offset_BO), 1, generator=rng) >= self.config.code_dropout
        logits_BC = self._ranked(network, batch, offset_BO * kept_B1.to(offset_BO.device))
        return functional.binary_cross_entropy_with_logits(logits_BC, batch.labels_BC)

    def _served_scores(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        network = _network(model)
        offset_BO = self._offset(network, batch, self._draw_ages(batch, rng))
        return self._ranked(network, batch, offset_BO)

    def _draw_ages(self, batch: Batch, rng: torch.Generator) -> Tensor:
        rows = len(batch.history_BH)
        ages_B = torch.randint(0, self.config.max_lag + 1, (rows,), generator=rng)
        return ages_B.to(batch.history_BH.device)

    def _offset(self, network: AdditiveNetwork, batch: Batch, age_B: Tensor | int) -> Tensor:
        return network.offset(cut_windows(batch.history_BH, self.config.generator_window, age_B))

    def _ranked(self, network: AdditiveNetwork, batch: Batch, offset_BO: Tensor) -> Tensor:
        windows_BT = cut_windows(batch.history_BH, self.config.features.window)
        logits_BC: Tensor = network(windows_BT, batch.candidates_BC, offset_BO)
        return logits_BC


def _parameters(model: nn.Module) -> Iterable[nn.Parameter]:
    return model.parameters()


def _network(model: nn.Module) -> AdditiveNetwork:
    assert isinstance(model, AdditiveNetwork)  # noqa: S101 - built by this method's own `build`
    return model


METHOD = Additive
