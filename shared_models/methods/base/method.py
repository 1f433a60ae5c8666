"""base: one trunk, trained in the cloud, run unchanged on every device."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.layers.sequence import cut_windows
from shared_models.method import Batch, ScorerExport, Stage
from shared_models.methods.base.config import Config
from shared_models.trunks.ranker import Ranker


class Base:
    """The un-personalised model that every other method is compared with."""

    name = "base"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, seed: int, popularity: Tensor | None = None) -> nn.Module:
        """A fresh `Ranker`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Ranker(self.config.trunk, self.config.features, popularity)

    def stages(self) -> Sequence[Stage]:
        """One stage over every parameter."""

        def scores(model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
            return self.score(model, batch)

        def loss(model: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
            logits_BC = scores(model, batch, rng)
            return functional.binary_cross_entropy_with_logits(logits_BC, batch.labels_BC)

        return [Stage("trunk", nn.Module.parameters, loss, scores)]

    def score(self, model: nn.Module, batch: Batch, age: int = 0) -> Tensor:  # noqa: ARG002 - no overlay, no age
        """Logits (B, C)."""
        windows_BT = cut_windows(batch.history_BH, self.config.features.window)
        logits_BC: Tensor = model(windows_BT, batch.candidates_BC)
        return logits_BC

    def rank(self, model: nn.Module, windows: Int64Array, candidates: Int64Array) -> Float32Array:
        """Logits (B, C), in the cloud."""
        device = next(model.parameters()).device
        inputs = (torch.from_numpy(array).to(device) for array in (windows, candidates))
        with torch.inference_mode():
            logits_BC: Tensor = model(*inputs)
        scores: Float32Array = logits_BC.cpu().numpy()
        return scores

    def export(self, model: nn.Module) -> ScorerExport:
        """The model as it is; no slots."""
        return ScorerExport(model)


METHOD = Base
