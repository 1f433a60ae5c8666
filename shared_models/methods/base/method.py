"""base: one trunk, trained in the cloud, run unchanged on every device."""

import torch
from torch import Tensor, nn

from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.method import ScorerExport
from shared_models.trunks.plain import PlainTraining


class Base(PlainTraining):
    """The un-personalised model that every other method is compared with."""

    name = "base"

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
