"""What a trunk offers to the methods that build on it."""

# Shapes: B rows, T events in the window, C candidates, V items, N states, D width.

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from shared_models.config import TrunkConfig
from shared_models.layers.embedding import ItemEmbedding
from shared_models.layers.mlp import MLP, slotted_mlp


class Trunk(nn.Module):
    """Items, an encoder of behaviour, and a score that goes through a head handed in by name.

    Subclasses say which sizes their head has and how a window becomes a score.
    """

    target_layers: ClassVar[int] = 2

    def __init__(self, config: TrunkConfig, items: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.items = ItemEmbedding(
            items, width, scale=config.embedding_scale, dropout=config.dropout
        )
        self.history_layer = MLP((width, width))
        self.target_layer = MLP((width,) * (self.target_layers + 1))

    @property
    def head_sizes(self) -> tuple[int, ...]:
        """Widths of the head's layers, input first."""
        raise NotImplementedError

    def embed_history(self, event_ids_BT: Tensor) -> Tensor:
        """Embedded behaviour (B, T, D); generators read the same."""
        return torch.tanh(self.history_layer(self.items(event_ids_BT)))

    def embed_targets(self, candidate_ids_BC: Tensor) -> Tensor:
        """Embedded candidates (B, C, D)."""
        targets_BCD: Tensor = self.target_layer(self.items(candidate_ids_BC))
        return targets_BCD

    def before_head(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor) -> tuple[Tensor, ...]:
        """What `through_head` reads; no weight of the head takes part in it."""
        raise NotImplementedError

    def through_head(self, read: Sequence[Tensor], head: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, C); whoever trains the head alone differentiates only this."""
        raise NotImplementedError

    @override
    def forward(
        self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, head: Mapping[str, Tensor]
    ) -> Tensor:
        """Logits (B, C) through the head's weights, shared (O, N) or one set a row (B, O, N)."""
        return self.through_head(self.before_head(event_ids_BT, candidate_ids_BC), head)


class SequenceTrunk(Trunk):
    """A trunk that sums behaviour up in one state: the head turns it into a taste for items."""

    @property
    @override
    def head_sizes(self) -> tuple[int, ...]:
        return (self.config.width,) * 3

    def encode(self, event_ids_BT: Tensor) -> Tensor:
        """Behaviour states (B, D); zero for an empty window."""
        raise NotImplementedError

    def encode_positions(self, event_ids_BT: Tensor) -> Tensor:
        """The state after each event (B, T, D), blind to later ones: training reads all at once.

        The state at position t is what `encode` gives for the events until t; where a window is
        padded, it is of no use.
        """
        raise NotImplementedError

    @override
    def before_head(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor) -> tuple[Tensor, ...]:
        state_B1D = self.encode(event_ids_BT)[:, None]
        bias_BC = self.items.bias[candidate_ids_BC]
        return state_B1D, self.embed_targets(candidate_ids_BC), bias_BC

    @override
    def through_head(self, read: Sequence[Tensor], head: Mapping[str, Tensor]) -> Tensor:
        state_B1D, targets_BCD, bias_BC = read
        taste_B1D = slotted_mlp(state_B1D, head)
        return (taste_B1D * targets_BCD).sum(-1) + bias_BC

    def score_catalogue(self, states_ND: Tensor, head: Mapping[str, Tensor]) -> Tensor:
        """Logits (N, V) of items 1 to V after each state; items to choose from lose no values."""
        targets_VD: Tensor = self.target_layer(self.items.vectors.weight[1:])
        return slotted_mlp(states_ND, head) @ targets_VD.T + self.items.bias[1:]
