"""base: one trunk, trained in the cloud, run unchanged on every device."""

# Shapes: B rows, T events in the window, C candidates, N events with a next one, V items.

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from shared_models.contract.events import PAD
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.layers.sequence import cut_windows
from shared_models.method import Batch, ScorerExport, Stage
from shared_models.methods.base.config import Config
from shared_models.trunks.plain import PlainTraining
from shared_models.trunks.ranker import Ranker
from shared_models.trunks.trunk import SequenceTrunk


class Base(PlainTraining):
    """The un-personalised model that every other method is compared with."""

    name = "base"

    config: Config

    @override
    def stages(self) -> Sequence[Stage]:
        """One stage over every parameter."""
        if self.config.objective == "bce":
            return super().stages()
        everything = nn.Module.parameters
        return [Stage("trunk", everything, self._softmax, self._log_shares, rows="sequences")]

    def rank(
        self,
        model: nn.Module,
        windows: Int64Array,
        candidates: Int64Array,
        profile: Int64Array | None = None,  # noqa: ARG002 - it reads none
    ) -> Float32Array:
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

    def _log_shares(self, model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
        """Logarithm of each candidate's share of the softmax over the catalogue.

        A softmax leaves the level of each row's logits open, so the pooled AUC that stops the
        training would compare what cannot be compared.
        """
        trunk, slots = _parts(model)
        states_BD = trunk.encode(cut_windows(batch.history_BH, self.config.features.window))
        shares_BV = functional.log_softmax(trunk.score_catalogue(states_BD, slots), dim=-1)
        return shares_BV.gather(1, batch.candidates_BC - 1)

    def _softmax(self, model: nn.Module, batch: Batch, _: torch.Generator) -> Tensor:
        """Each event's next one against the whole catalogue."""
        trunk, slots = _parts(model)
        items_BT = cut_windows(batch.history_BH, self.config.features.window + 1)
        next_BT = items_BT[:, 1:]
        known_BT = next_BT != PAD
        states_ND = trunk.encode_positions(items_BT[:, :-1])[known_BT]
        logits_NV = trunk.score_catalogue(states_ND, slots)
        return functional.cross_entropy(logits_NV, next_BT[known_BT] - 1)


def _parts(model: nn.Module) -> tuple[SequenceTrunk, Mapping[str, Tensor]]:
    """The trunk and the head of a ranker that has states after every event."""
    assert isinstance(model, Ranker)  # noqa: S101 - built by this method's own `build`
    assert isinstance(model.trunk, SequenceTrunk)  # noqa: S101 - the config saw to it
    return model.trunk, model.head.slots


METHOD = Base
