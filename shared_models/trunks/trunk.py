"""What a trunk offers to the methods that build on it."""

# Shapes: B rows, T events in the window, C candidates, K contexts, V items, N states, D width,
# W width of what a head reads.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from shared_models.config import TrunkConfig
from shared_models.contract.features import FeatureSpec
from shared_models.layers.embedding import ItemEmbedding
from shared_models.layers.mlp import MLP, slotted_mlp


@dataclass(frozen=True, slots=True)
class Context:
    """What a method knows of each user beside the window.

    Attributes:
        vectors_BKD: K vectors, such as a memory.
        own_B11: how much the window itself counts (B, 1, 1); None: fully.
    """

    vectors_BKD: Tensor
    own_B11: Tensor | None = None


class Sides(NamedTuple):
    """The two that a score is about.

    Attributes:
        interest_BCD: what behaviour says, for all candidates (B, 1, D) or for each (B, C, D).
        targets_BCD: the candidates.
        bias_BC: of the candidates; it is added to the logits.
    """

    interest_BCD: Tensor
    targets_BCD: Tensor
    bias_BC: Tensor


class Trunk(nn.Module):
    """Items, an encoder of behaviour, and a score that goes through a head handed in by name.

    Subclasses say which sizes their head has and how a window becomes a score.

    Args:
        config: of the trunk.
        features: what it reads.
        contexts: K, vectors that its head reads beside the window.
    """

    target_layers: ClassVar[int] = 2

    def __init__(self, config: TrunkConfig, features: FeatureSpec, contexts: int = 0) -> None:
        super().__init__()
        self.config, self.contexts = config, contexts
        width = config.width
        self.items = ItemEmbedding(
            features.items,
            width,
            scale=config.embedding_scale,
            dropout=config.dropout,
            fields=features.item_fields,
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

    def sides(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor) -> Sides:
        """The user and the candidates, before they meet."""
        raise NotImplementedError

    def meet(self, sides: Sides, context: Context | None = None) -> tuple[Tensor, ...]:
        """What `through_head` reads."""
        raise NotImplementedError

    def before_head(
        self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, context: Context | None = None
    ) -> tuple[Tensor, ...]:
        """What `through_head` reads; no weight of the head takes part in it."""
        return self.meet(self.sides(event_ids_BT, candidate_ids_BC), context)

    def through_head(self, read: Sequence[Tensor], head: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, C); whoever trains the head alone differentiates only this."""
        raise NotImplementedError

    @override
    def forward(
        self,
        event_ids_BT: Tensor,
        candidate_ids_BC: Tensor,
        head: Mapping[str, Tensor],
        context: Context | None = None,
    ) -> Tensor:
        """Logits (B, C) through the head's weights, shared (O, N) or one set a row (B, O, N)."""
        return self.through_head(self.before_head(event_ids_BT, candidate_ids_BC, context), head)


class SequenceTrunk(Trunk):
    """A trunk that sums behaviour up in one state: the head turns it into a taste for items."""

    @property
    @override
    def head_sizes(self) -> tuple[int, ...]:
        width = self.config.width
        return ((1 + self.contexts) * width, width, width)

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
    def sides(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor) -> Sides:
        state_B1D, bias_BC = self.encode(event_ids_BT)[:, None], self.items.bias[candidate_ids_BC]
        return Sides(state_B1D, self.embed_targets(candidate_ids_BC), bias_BC)

    @override
    def meet(self, sides: Sides, context: Context | None = None) -> tuple[Tensor, ...]:
        state_B1W, targets_BCD, bias_BC = sides
        if context is not None:
            own_B1D = state_B1W if context.own_B11 is None else state_B1W * context.own_B11
            state_B1W = torch.cat([own_B1D, context.vectors_BKD.flatten(1)[:, None]], dim=-1)
        return state_B1W, targets_BCD, bias_BC

    @override
    def through_head(self, read: Sequence[Tensor], head: Mapping[str, Tensor]) -> Tensor:
        state_B1W, targets_BCD, bias_BC = read
        taste_B1D = slotted_mlp(state_B1W, head)
        return (taste_B1D * targets_BCD).sum(-1) + bias_BC

    def score_catalogue(self, states_ND: Tensor, head: Mapping[str, Tensor]) -> Tensor:
        """Logits (N, V) of items 1 to V after each state; items to choose from lose no values."""
        targets_VD: Tensor = self.target_layer(self.items.table[1:])
        return slotted_mlp(states_ND, head) @ targets_VD.T + self.items.bias[1:]


class CrossTrunk(Trunk):
    """A trunk whose head reads each candidate beside the user, and their products."""

    target_layers = 1

    @property
    @override
    def head_sizes(self) -> tuple[int, ...]:
        width = self.config.width
        return ((3 + 2 * self.contexts) * width, 4 * width, 2 * width, 1)

    @override
    def embed_targets(self, candidate_ids_BC: Tensor) -> Tensor:
        return torch.tanh(super().embed_targets(candidate_ids_BC))

    def interest(self, event_ids_BT: Tensor, targets_BCD: Tensor) -> Tensor:
        """What the window says of the user, for all candidates (B, 1, D) or for each (B, C, D)."""
        raise NotImplementedError

    @override
    def sides(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor) -> Sides:
        targets_BCD = self.embed_targets(candidate_ids_BC)
        interest_BCD = self.interest(event_ids_BT, targets_BCD)
        return Sides(interest_BCD, targets_BCD, self.items.bias[candidate_ids_BC])

    @override
    def meet(self, sides: Sides, context: Context | None = None) -> tuple[Tensor, ...]:
        interest_BCD, targets_BCD, bias_BC = sides
        interest_BCD = interest_BCD.expand_as(targets_BCD)
        about = [interest_BCD]
        if context is not None:
            if context.own_B11 is not None:
                about = [interest_BCD * context.own_B11]
            about += [
                each[:, None].expand_as(targets_BCD) for each in context.vectors_BKD.unbind(1)
            ]
        products = [each * targets_BCD for each in about]
        return torch.cat([targets_BCD, *about, *products], dim=-1), bias_BC

    @override
    def through_head(self, read: Sequence[Tensor], head: Mapping[str, Tensor]) -> Tensor:
        read_BCW, bias_BC = read
        return slotted_mlp(read_BCW, head).squeeze(-1) + bias_BC
