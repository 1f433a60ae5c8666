"""DUET's network: a ranker, and a generator that writes the ranker's head from behaviour."""

# Shapes: B rows, T events in the window, G events in the uplink, C candidates, Z code.

import torch
from torch import Tensor, nn
from typing_extensions import override

from shared_models.layers.hypernetwork import CodeEncoder, WeightWriter
from shared_models.method import Facts
from shared_models.methods.duet.config import Config
from shared_models.methods.duet.gate import Gate
from shared_models.trunks.ranker import Ranker


class DuetNetwork(nn.Module):
    """A `Ranker` with a generator over the trunk's own embeddings.

    The generator shares the trunk's table: with one of its own the gain is gone.
    """

    def __init__(self, config: Config, facts: Facts | None = None) -> None:
        super().__init__()
        self.ranker = Ranker(config.trunk, config.features, facts)
        self.encoder = CodeEncoder(config.trunk.width, config.code)
        self.writer = WeightWriter(self.ranker.head.slots, config.code, config.writer_scale)
        if config.heads == "frozen":
            self._freeze_writer()
        self.gate = Gate(config.trunk.width, config.gate_hidden) if config.gate else None

    def code(self, uplink_BG: Tensor) -> Tensor:
        """Latent codes (B, Z)."""
        history_BGD = self.ranker.trunk.embed_history(uplink_BG)
        code_BZ: Tensor = self.encoder(history_BGD, uplink_BG)
        return code_BZ

    def slots(self, code_BZ: Tensor) -> dict[str, Tensor]:
        """One head (B, *shape) for each code."""
        slots: dict[str, Tensor] = self.writer(code_BZ, self.ranker.head.slots)
        return slots

    @override
    def forward(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, code_BZ: Tensor) -> Tensor:
        """Logits (B, C), each row through its own head."""
        logits_BC: Tensor = self.ranker(event_ids_BT, candidate_ids_BC, self.slots(code_BZ))
        return logits_BC

    def _freeze_writer(self) -> None:
        """Keep writer and head at normal numbers cut at 2, never trained."""
        for parameter in (*self.writer.parameters(), *self.ranker.head.parameters()):
            parameter.requires_grad_(False)
            parameter.copy_(torch.randn_like(parameter).fmod(2))
