"""ecrec: the cloud compresses a long history into a memory that the device reads."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.layers.sequence import cut_windows
from shared_models.method import Batch, Facts, Personalization, ScorerExport, Stage, Uplinks
from shared_models.methods.ecrec.config import Config
from shared_models.methods.ecrec.network import MEMORY, EcrecNetwork, MemoryScorer

# Shapes: B rows, L events of the long history, C candidates, K passes, D width.


class Ecrec:
    """Long and short sequences in the cloud; memory and short sequence on the device."""

    name = "ecrec"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, seed: int, facts: Facts | None = None) -> nn.Module:
        """A fresh `EcrecNetwork`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return EcrecNetwork(self.config, facts)

    def stages(self) -> Sequence[Stage]:
        """One stage over every parameter."""
        return [Stage("joint", nn.Module.parameters, self._loss, self._served_scores)]

    def score(self, model: nn.Module, batch: Batch, age: int = 0) -> Tensor:
        """Logits (B, C) with every memory ``age`` events old."""
        network = _network(model)
        long_BL = cut_windows(batch.history_BH, self.config.long, age)
        return self._logits(network, batch, network.remembered(long_BL)[0])

    def personalize(self, model: nn.Module, uplinks: Uplinks) -> Personalization:
        """A memory of each user's history in the cloud."""
        slots = self._remembered(model, uplinks.items_BN)
        return Personalization(slots, memory_BD=slots[MEMORY])

    def remember(self, model: nn.Module, histories_BL: Int64Array) -> Float32Array:
        """Memories (B, D)."""
        return self._remembered(model, histories_BL)[MEMORY]

    def export(self, model: nn.Module) -> ScorerExport:
        """The ranker with the memory as slots; no long history, no aggregation."""
        network = _network(model)
        return ScorerExport(MemoryScorer(network), network.defaults)

    def _remembered(self, model: nn.Module, histories_BL: Int64Array) -> dict[str, Float32Array]:
        network = _network(model)
        device = next(network.parameters()).device
        with torch.inference_mode():
            slots = network.remembered(torch.from_numpy(histories_BL).to(device))[0]
        return {name: value.cpu().numpy() for name, value in slots.items()}

    def _loss(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Cross entropy over all passes, and how far each is from their mean."""
        network = _network(model)
        long_BL = self._drawn(batch, rng)
        passes = network.remembered(
            long_BL, [self._seen(long_BL, rng) for _ in range(self.config.passes)]
        )
        logits_KBC = torch.stack([self._logits(network, batch, slots) for slots in passes])
        labels_KBC = batch.labels_BC.expand_as(logits_KBC)
        loss = functional.binary_cross_entropy_with_logits(logits_KBC, labels_KBC)
        return loss + self.config.consistency * disagreement(logits_KBC)

    def _served_scores(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        network = _network(model)
        return self._logits(network, batch, network.remembered(self._drawn(batch, rng))[0])

    def _drawn(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Long histories as memories know them: some old, some missing altogether."""
        config, rows = self.config, len(batch.history_BH)
        lag_B = torch.randint(0, config.max_lag + 1, (rows,), generator=rng)
        lag_B = lag_B * (torch.rand(rows, generator=rng) < config.lagged)
        there_B1 = torch.rand(rows, 1, generator=rng) >= config.missing
        device = batch.history_BH.device
        return cut_windows(batch.history_BH, config.long, lag_B.to(device)) * there_B1.to(device)

    def _seen(self, long_BL: Tensor, rng: torch.Generator) -> Tensor:
        drawn_BL = torch.rand(long_BL.shape, generator=rng) < self.config.keep
        return drawn_BL.to(long_BL.device)

    def _logits(self, network: EcrecNetwork, batch: Batch, slots: Mapping[str, Tensor]) -> Tensor:
        windows_BT = cut_windows(batch.history_BH, self.config.features.window)
        logits_BC: Tensor = network(windows_BT, batch.candidates_BC, slots)
        return logits_BC


def disagreement(logits_KBC: Tensor) -> Tensor:
    """Mean squared distance of each pass's probabilities from their mean; 0 with one pass."""
    chance_KBC = torch.sigmoid(logits_KBC)
    return (chance_KBC - chance_KBC.mean(0)).square().mean()


def _network(model: nn.Module) -> EcrecNetwork:
    assert isinstance(model, EcrecNetwork)  # noqa: S101 - built by this method's own `build`
    return model


METHOD = Ecrec
