"""A trunk with a head of its own: the smallest thing that ranks."""

# Shapes: B rows, T events in the window, C candidates.

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from torch import Tensor, nn
from typing_extensions import override

from shared_models.config import TrunkConfig, TrunkName
from shared_models.contract.features import FeatureSpec
from shared_models.layers.mlp import SlottedMLP
from shared_models.method import Facts
from shared_models.trunks.din import DIN
from shared_models.trunks.gru4rec import GRU4Rec
from shared_models.trunks.pool import Pool
from shared_models.trunks.sasrec import SASRec
from shared_models.trunks.trunk import Context, Trunk

TRUNKS: Final[Mapping[TrunkName, Callable[[TrunkConfig, FeatureSpec, int], Trunk]]] = {
    "sasrec": SASRec,
    "gru4rec": GRU4Rec,
    "din": DIN,
    "pool": Pool,
}


class Ranker(nn.Module):
    """Scores candidates for a window; the head's weights may be handed in.

    Args:
        config: of the trunk.
        features: what it reads.
        facts: of the training log, where it is about to be trained.
        contexts: K, vectors that the head reads beside the window.
    """

    def __init__(
        self,
        config: TrunkConfig,
        features: FeatureSpec,
        facts: Facts | None = None,
        contexts: int = 0,
    ) -> None:
        super().__init__()
        self.trunk = TRUNKS[config.name](config, features, contexts)
        self.head = SlottedMLP(self.trunk.head_sizes)
        if facts is None:
            return
        if config.popularity_bias:
            self.trunk.items.start_at_popularity(facts.popularity_V)
        if features.item_fields is not None:
            self.trunk.items.know(facts.item_fields_VM)
        if config.reads_graph:
            assert facts.item_vectors_VF is not None  # noqa: S101 - who trains reads the config
            self.trunk.items.lean_on(facts.item_vectors_VF)

    @override
    def forward(
        self,
        event_ids_BT: Tensor,
        candidate_ids_BC: Tensor,
        slots: Mapping[str, Tensor] | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """Logits (B, C); ``slots`` shared (O, N) or one set a row (B, O, N), else its own head."""
        head = slots or self.head.slots
        scores_BC: Tensor = self.trunk(event_ids_BT, candidate_ids_BC, head, context)
        return scores_BC


class BeforeHead(nn.Module):
    """The part of a trunk that its head's weights do not touch, as a module."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    @override
    def forward(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor) -> tuple[Tensor, ...]:
        """What the trunk's `through_head` reads."""
        return self.trunk.before_head(event_ids_BT, candidate_ids_BC)


class SlottedScorer(nn.Module):
    """A `Ranker` whose slots are positional inputs, as a device feeds them.

    Args:
        ranker: what scores.
        names: slots of its head that are fed; the others stay as they are. None: all of them.
    """

    def __init__(self, ranker: Ranker, names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.ranker = ranker
        self.names = tuple(ranker.head.slots if names is None else names)

    @override
    def forward(self, event_ids_BT: Tensor, candidate_ids_BC: Tensor, *slots: Tensor) -> Tensor:
        """Logits (B, C)."""
        named = {**self.ranker.head.slots, **dict(zip(self.names, slots, strict=True))}
        scores_BC: Tensor = self.ranker(event_ids_BT, candidate_ids_BC, named)
        return scores_BC
