"""A ranker that reads a memory, and the aggregation that makes one of a long history."""

# Shapes: B rows, T events in the window, L events of the long history, C candidates, H heads,
# D width, K width of a head.

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from shared_models.contract.events import PAD
from shared_models.layers.attention import masked_softmax
from shared_models.layers.mlp import MLP
from shared_models.layers.sequence import lengths, recency
from shared_models.method import Facts
from shared_models.methods.ecrec.config import Config
from shared_models.trunks.ranker import Ranker
from shared_models.trunks.trunk import Context

MEMORY = "memory"
COVERAGE = "coverage"


class Aggregator(nn.Module):
    """One learned query that reads a long history: what it finds is added to a common memory.

    Args:
        width: D.
        heads: H.
        longest: L.
    """

    def __init__(self, width: int, heads: int, longest: int) -> None:
        super().__init__()
        self.common = nn.Parameter(torch.zeros(width))
        self.query = nn.Parameter(torch.randn(heads, width // heads))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.age_bias = nn.Parameter(torch.zeros(longest, heads))

    @override
    def forward(
        self, history_BLD: Tensor, event_ids_BL: Tensor, seen: Sequence[Tensor]
    ) -> list[Tensor]:
        """Memories (B, D), one set for each mask (B, L) of what may be read.

        Where no event is seen it is the common one.
        """
        rows, length, width = history_BLD.shape
        heads, size = self.query.shape
        key_BLHK = self.key(history_BLD).reshape(rows, length, heads, size)
        age_BLH = self.age_bias[recency(event_ids_BL, len(self.age_bias))]
        logits_BHL = ((key_BLHK * self.query).sum(-1) * size**-0.5 + age_BLH).transpose(1, 2)
        value_BHLK = self.value(history_BLD).reshape(rows, length, heads, size).transpose(1, 2)
        weights = (masked_softmax(logits_BHL, seen_BL[:, None]) for seen_BL in seen)
        read = ((each[:, :, None] @ value_BHLK).reshape(rows, width) for each in weights)
        return [self.common + self.out(read_BD) for read_BD in read]


class Gate(nn.Module):
    """How much memory counts against window, between 0 and 1."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.layers = MLP((2, hidden, 1))

    @override
    def forward(self, known_B1: Tensor, coverage_B1: Tensor) -> Tensor:
        """Weights of the memory (B, 1), from the shares of window and long history that there are.

        Counts themselves would saturate it.
        """
        return torch.sigmoid(self.layers(torch.cat([known_B1, coverage_B1], dim=-1)))


class EcrecNetwork(nn.Module):
    """A `Ranker` with a memory as its context; aggregation stays in the cloud."""

    def __init__(self, config: Config, facts: Facts | None = None) -> None:
        super().__init__()
        self.config = config
        self.ranker = Ranker(config.trunk, config.features, facts, contexts=1)
        self.aggregator = Aggregator(config.trunk.width, config.heads, config.long)
        self.gate = Gate() if config.gate else None

    @property
    def defaults(self) -> Mapping[str, Tensor]:
        """What a device without a memory scores with."""
        slots = {MEMORY: self.aggregator.common}
        return {**slots, COVERAGE: torch.zeros(1)} if self.gate else slots

    def remembered(
        self, event_ids_BL: Tensor, drawn: Sequence[Tensor] | None = None
    ) -> list[dict[str, Tensor]]:
        """Slot values of each user: the memory (B, D), and the coverage (B, 1).

        The coverage is the share of the long history that there is; the gate reads it.

        Args:
            event_ids_BL: right-padded long histories.
            drawn: masks (B, L) of what may be read of the known events; one of all by default.

        Returns:
            One set for each mask.
        """
        history_BLD = self.ranker.trunk.embed_history(event_ids_BL)
        known_BL = event_ids_BL != PAD
        seen = [known_BL] if drawn is None else [known_BL & drawn_BL for drawn_BL in drawn]
        memories = self.aggregator(history_BLD, event_ids_BL, seen)
        coverage = {COVERAGE: lengths(event_ids_BL)[:, None] / self.config.long}
        return [{MEMORY: each, **(coverage if self.gate else {})} for each in memories]

    @override
    def forward(
        self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, slots: Mapping[str, Tensor]
    ) -> Tensor:
        """Logits (B, C); slots (B, *shape)."""
        context = context_of(self.gate, self.config.features.window, event_ids_BT, slots)
        logits_BC: Tensor = self.ranker(event_ids_BT, candidate_ids_BC, None, context)
        return logits_BC


def context_of(
    gate: Gate | None, window: int, event_ids_BT: Tensor, slots: Mapping[str, Tensor]
) -> Context:
    """The memory, and where there is a gate how much it counts against the window."""
    memory_BD = slots[MEMORY]
    if gate is None:
        return Context(memory_BD[:, None])
    gate_B1 = gate(lengths(event_ids_BT)[:, None] / window, slots[COVERAGE])
    return Context((gate_B1 * memory_BD)[:, None], (1 - gate_B1)[..., None])


class MemoryScorer(nn.Module):
    """What a device runs: window, candidates, and one user's slots."""

    def __init__(self, network: EcrecNetwork) -> None:
        super().__init__()
        self.ranker, self.gate = network.ranker, network.gate
        self.window = network.config.features.window
        self.names = tuple(network.defaults)

    @override
    def forward(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, *slots: Tensor) -> Tensor:
        """Logits (B, C)."""
        rows = event_ids_BT.shape[0]
        named = {n: s[None].expand(rows, -1) for n, s in zip(self.names, slots, strict=True)}
        context = context_of(self.gate, self.window, event_ids_BT, named)
        logits_BC: Tensor = self.ranker(event_ids_BT, candidate_ids_BC, None, context)
        return logits_BC
