"""dlrm: the cloud ranks with a network over dense and looked-up features; devices fall back."""

# Shapes: B rows, C candidates.

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.layers.sequence import cut_windows
from shared_models.method import Batch, Facts, ScorerExport, Stage
from shared_models.methods.dlrm.config import Config
from shared_models.methods.dlrm.network import losses
from shared_models.methods.dlrm.recommender import Both

Loss = Callable[[nn.Module, Batch, torch.Generator], Tensor]


class Dlrm:
    """Devices ask the cloud to rank, and rank with a small trunk where it does not answer."""

    name = "dlrm"

    def __init__(self, config: Config) -> None:
        self.config = config

    def build(self, seed: int, facts: Facts | None = None) -> nn.Module:
        """A fresh `Both`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Both(self.config, seed, facts)

    def stages(self) -> Sequence[Stage]:
        """The cloud's network, then the devices' trunk; neither knows of the other."""

        def cloud_loss(model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
            logits_BC, labels_BC = self.score(model, batch), batch.labels_BC
            return losses(self.config, logits_BC.flatten(), labels_BC.flatten()).mean()

        def fallback_loss(model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
            logits_BC = self.fallback(model, batch)
            return functional.binary_cross_entropy_with_logits(logits_BC, batch.labels_BC)

        return [
            Stage("cloud", lambda model: _both(model).cloud.parameters(), cloud_loss, self._cloud),
            Stage(
                "fallback",
                lambda model: _both(model).fallback.parameters(),
                fallback_loss,
                self._fallback,
            ),
        ]

    def score(self, model: nn.Module, batch: Batch, age: int = 0) -> Tensor:  # noqa: ARG002 - no overlay, no age
        """Logits (B, C) of the cloud."""
        windows_BT = cut_windows(batch.history_BH, self.config.cloud_window)
        logits_BC: Tensor = _both(model).cloud(windows_BT, batch.candidates_BC, batch.profile_BM)
        return logits_BC

    def fallback(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (B, C) of a device without the cloud."""
        windows_BT = cut_windows(batch.history_BH, self.config.features.window)
        logits_BC: Tensor = _both(model).fallback(windows_BT, batch.candidates_BC, batch.profile_BM)
        return logits_BC

    def rank(
        self,
        model: nn.Module,
        windows: Int64Array,
        candidates: Int64Array,
        profile: Int64Array | None = None,
    ) -> Float32Array:
        """Logits (B, C), in the cloud; ``profile`` int64 (B, M), None where nothing is known."""
        device = next(model.parameters()).device
        inputs = (
            None if array is None else torch.from_numpy(array).to(device)
            for array in (windows, candidates, profile)
        )
        with torch.inference_mode():
            logits_BC: Tensor = _both(model).cloud(*inputs)
        scores: Float32Array = logits_BC.cpu().numpy()
        return scores

    def export(self, model: nn.Module) -> ScorerExport:
        """What devices fall back on; no slots."""
        return ScorerExport(_both(model).fallback)

    def _cloud(self, model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
        return self.score(model, batch)

    def _fallback(self, model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
        return self.fallback(model, batch)


def _both(model: nn.Module) -> Both:
    assert isinstance(model, Both)  # noqa: S101 - built by this method's own `build`
    return model


METHOD = Dlrm
