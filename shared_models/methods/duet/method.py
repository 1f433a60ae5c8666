"""DUET: the cloud writes each device's head from its recent behaviour (arXiv:2209.05227)."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.layers.sequence import cut_windows
from shared_models.method import Batch, ScorerExport, Stage
from shared_models.methods.duet.config import Config
from shared_models.methods.duet.network import DuetNetwork
from shared_models.trunks.ranker import SlottedScorer


class Duet:
    """Trunk and generator, trained together, with overlays of every age that devices will see."""

    name = "duet"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, seed: int, popularity: Tensor | None = None) -> nn.Module:
        """A fresh `DuetNetwork`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return DuetNetwork(self.config, popularity)

    def stages(self) -> Sequence[Stage]:
        """One stage: trunk, head and generator move together."""
        return [Stage("joint", _trainable, self._loss, self._served_scores)]

    def score(self, model: nn.Module, batch: Batch, age: int = 0) -> Tensor:
        """Logits (B, C) with every overlay ``age`` events old."""
        return self._logits(_network(model), batch, age)

    def personalize(self, model: nn.Module, uplinks: Int64Array) -> Mapping[str, Float32Array]:
        """A head for each uplink."""
        network = _network(model)
        device = next(network.parameters()).device
        with torch.inference_mode():
            slots = network.slots(network.code(torch.from_numpy(uplinks).to(device)))
        return {name: value.cpu().numpy() for name, value in slots.items()}

    def export(self, model: nn.Module) -> ScorerExport:
        """The ranker alone; its head is the slots, the generator stays in the cloud."""
        ranker = _network(model).ranker
        return ScorerExport(SlottedScorer(ranker), ranker.head.slots)

    def _loss(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        network = _network(model)
        code_BZ = self._code(network, batch, self._draw_ages(batch, rng))
        # Rows without a code keep the default head good: devices fall back to it.
        kept_B1 = torch.rand(len(code_BZ), 1, generator=rng) >= self.config.code_dropout
        logits_BC = self._ranked(network, batch, code_BZ * kept_B1.to(code_BZ.device))
        return functional.binary_cross_entropy_with_logits(logits_BC, batch.labels_BC)

    def _served_scores(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        return self._logits(_network(model), batch, self._draw_ages(batch, rng))

    def _draw_ages(self, batch: Batch, rng: torch.Generator) -> Tensor:
        rows = len(batch.history_BH)
        ages_B = torch.randint(0, self.config.max_lag + 1, (rows,), generator=rng)
        return ages_B.to(batch.history_BH.device)

    def _logits(self, network: DuetNetwork, batch: Batch, age_B: Tensor | int) -> Tensor:
        return self._ranked(network, batch, self._code(network, batch, age_B))

    def _code(self, network: DuetNetwork, batch: Batch, age_B: Tensor | int) -> Tensor:
        return network.code(cut_windows(batch.history_BH, self.config.generator_window, age_B))

    def _ranked(self, network: DuetNetwork, batch: Batch, code_BZ: Tensor) -> Tensor:
        windows_BT = cut_windows(batch.history_BH, self.config.features.window)
        logits_BC: Tensor = network(windows_BT, batch.candidates_BC, code_BZ)
        return logits_BC


def _trainable(model: nn.Module) -> Iterable[nn.Parameter]:
    return (parameter for parameter in model.parameters() if parameter.requires_grad)


def _network(model: nn.Module) -> DuetNetwork:
    assert isinstance(model, DuetNetwork)  # noqa: S101 - built by this method's own `build`
    return model


METHOD = Duet
