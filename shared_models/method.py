"""The interface of a method: one way for a cloud and its devices to recommend together.

A method is stateless: weights come in as a torch module, values go out. The smallest one needs a
config, a module and three functions::

    class Base:
        def build(self, seed, facts=None): return Ranker(self.config.trunk, ...)
        def stages(self): return [Stage("trunk", all_parameters, loss, scores)]
        def score(self, model, batch, age=0): return model(...)
        def export(self, model): return ScorerExport(model, slots={})

What else it can do are small protocols beside it; the cloud asks ``isinstance``, never a name.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared_models.config import MethodConfig
from shared_models.contract.manifest import LearningSpec
from shared_models.contract.tensors import Float32Array, Int64Array

# Shapes: B rows (a positive beside its negatives, or an exposure), H history, C candidates,
# M value ids, W neighbours, L events of each, D width.

Rows = Literal["targets", "sequences", "sessions"]
"""What a training batch holds: single targets with the history before each; behaviour as it went
on, H + 1 items of one user in a row, in which every item is the target of those before; or moments
inside sessions of the validation part, from which no other stage has learned, H items until a few
exposures later."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model knows of a log before it is trained.

    Attributes:
        popularity_V: float32 (V + 1,), each item's share of the training part.
        item_fields_VM: int64 (V + 1, M), value ids of the items' features, padded with 0.
        item_vectors_VF: float32 (V + 1, F), what a network over the items' graph says of them,
            where the trunk leans on that; columns of unit variance, the first row zero.
    """

    popularity_V: Tensor
    item_fields_VM: Tensor
    item_vectors_VF: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a log, on one torch device.

    Attributes:
        history_BH: int64, the H items before each target, newest last, left-padded with 0; in
            rows of sequences the H + 1 items of each.
        candidates_BC: int64 items to score; in rows of sequences none.
        labels_BC: float32, 1 where the user took the item.
        profile_BM: int64 value ids of the users' features, where the method reads them.
        others_BWL: int64 items of W neighbours, as ``history_BH``, where the method reads them.
        groups_B: int64 groups of the users, from 1 on, where the method knows some.
        prior_BC: float32 logits of a ranker in the cloud, where the log tells them.
        since_B: in rows of sessions, int64 events of the session before now, at least 1.
        left_B: in rows of sessions, int64 items at the history's end that come after now.
    """

    history_BH: Tensor
    candidates_BC: Tensor
    labels_BC: Tensor
    profile_BM: Tensor | None = None
    others_BWL: Tensor | None = None
    groups_B: Tensor | None = None
    prior_BC: Tensor | None = None
    since_B: Tensor | None = None
    left_B: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of training, as data.

    Attributes:
        name: for people and checkpoints.
        trainable: the parameters that this stage moves.
        loss: a scalar from model, batch and a generator for what the stage draws.
        scores: validation scores (B, C), with staleness drawn as in service.
        epochs: most epochs, where fewer than the recipe's suffice.
        rows: what the loss reads.
        ahead: in rows of sessions, most exposures from now on.
        passes: in rows of sessions, how often an epoch holds each moment: there are few of them,
            and each time other things are drawn.
        most: in rows of sessions, most of them in an epoch.
        start: told of some training rows before the first step: what begins where the data are.
        slow: those of the parameters that it moves at a tenth of the rate.
    """

    name: str
    trainable: Callable[[nn.Module], Iterable[nn.Parameter]]
    loss: Callable[[nn.Module, Batch, torch.Generator], Tensor]
    scores: Callable[[nn.Module, Batch, torch.Generator], Tensor]
    epochs: int | None = None
    rows: Rows = "targets"
    ahead: int = 1
    passes: int = 1
    most: int | None = None
    start: Callable[[nn.Module, Batch], None] | None = None
    slow: Callable[[nn.Module], Iterable[nn.Parameter]] | None = None


@dataclass(frozen=True, slots=True)
class EncoderExport:
    """What devices make of behaviour before it leaves them.

    Attributes:
        encoder: module ``(event_ids_BN) -> (tensor, ...)`` over the uplink's window.
        outputs: their names and sizes; all are vectors (B, D).
    """

    encoder: nn.Module
    outputs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ScorerExport:
    """What a method hands to the exporter.

    Attributes:
        scorer: module ``(event_ids_BT, candidate_ids_BC[, profile_BM], *slots) -> scores_BC``.
        slots: default value of each slot, in the order of the scorer's arguments.
        encoder: what a refresh sends up in place of item ids.
        groups: values of some slots for group 1, 2, ...; the same slots for each.
    """

    scorer: nn.Module
    slots: Mapping[str, Tensor] = field(default_factory=dict)
    encoder: EncoderExport | None = None
    groups: Sequence[Mapping[str, Tensor]] = ()


@dataclass(frozen=True, slots=True)
class LearnerExport:
    """How a method's scorer falls apart at its slots, so that devices can train them.

    Only what the slots touch is differentiated; the rest runs forward, as in the scorer.

    Attributes:
        frozen: module ``(event_ids_BT, candidate_ids_BC) -> (tensor, ...)``, the part before.
        tail: ``(those tensors, slots by name) -> scores_BC``, the part from the first slot on.
        spec: how a device trains.
    """

    frozen: nn.Module
    tail: Callable[[Sequence[Tensor], Mapping[str, Tensor]], Tensor]
    spec: LearningSpec


@runtime_checkable
class Method(Protocol):
    """One way for a cloud and its devices to recommend together."""

    @property
    def name(self) -> str:
        """Equals the folder's name."""
        ...

    @property
    def config(self) -> MethodConfig:
        """Frozen settings; their hash is part of a bundle's identity."""
        ...

    def build(self, seed: int, facts: Facts | None = None) -> nn.Module:
        """A fresh module; without ``facts``, one to load weights into."""
        ...

    def stages(self) -> Sequence[Stage]:
        """How to train it."""
        ...

    def score(self, model: nn.Module, batch: Batch, age: int = 0) -> Tensor:
        """Logits (B, C) as served with overlays that are ``age`` events old."""
        ...

    def export(self, model: nn.Module) -> ScorerExport:
        """What devices run."""
        ...


@dataclass(frozen=True, slots=True)
class Uplinks:
    """What B devices sent up, beside what the cloud remembers of others.

    Attributes:
        items_BN: int64, newest last, right-padded with 0: the ids that the manifest's uplink names,
            or the newest of the user's history in the cloud.
        outputs: float32 (B, D) by name, of the encoder.
        others_BWD: float32, the vectors of each user's neighbours.
        known_BW: which of them there are.
    """

    items_BN: Int64Array
    outputs: Mapping[str, Float32Array] = field(default_factory=dict)
    others_BWD: Float32Array | None = None
    known_BW: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Personalization:
    """What B devices get, and what the cloud keeps of them.

    Attributes:
        slots: float32 (B, *shape) by slot.
        memory_BD: float32, what is remembered of each user from now on; None: nothing new.
        groups_B: int64, each user's group from 1 on; None where there are none.
    """

    slots: Mapping[str, Float32Array]
    memory_BD: Float32Array | None = None
    groups_B: Int64Array | None = None


@runtime_checkable
class Personalizes(Protocol):
    """A method whose cloud writes slot values for single devices."""

    def personalize(self, model: nn.Module, uplinks: Uplinks) -> Personalization:
        """Slot values for each uplink; rows do not depend on each other."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """A method whose cloud keeps a vector of each user, as its config's ``memory`` says."""

    def remember(self, model: nn.Module, histories_BL: Int64Array) -> Float32Array:
        """Vectors float32 (B, D) of histories int64, newest last, right-padded."""
        ...


@dataclass(frozen=True, slots=True)
class ControllerExport:
    """What tells devices when to ask.

    Attributes:
        controller: module ``(event_ids_BG, refreshed_ids_BG) -> (change_B, gain_B, ...)``. It
            compares the uplink's window now with that of the last refresh: how far behaviour moved,
            and what a refresh is expected to bring.
        more: names and widths of what it returns beside them; 0 where that is a number a row.
    """

    controller: nn.Module
    more: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class Controls(Protocol):
    """A method that can tell devices when a refresh is worth its bytes."""

    def controller(self, model: nn.Module) -> ControllerExport | None:
        """What devices ask whether to ask; None: nothing."""
        ...


@runtime_checkable
class Learns(Protocol):
    """A method whose devices can train their slots on what their users take."""

    def learner(self, model: nn.Module) -> LearnerExport | None:
        """The scorer of `Method.export`, cut in two at its slots; None: devices train nothing."""
        ...


@runtime_checkable
class RanksInCloud(Protocol):
    """A method whose cloud can rank for a device."""

    def rank(
        self,
        model: nn.Module,
        windows: Int64Array,
        candidates: Int64Array,
        profile: Int64Array | None = None,
    ) -> Float32Array:
        """Logits float32 (B, C) for windows int64 (B, T), right-padded, and candidates (B, C).

        ``profile`` int64 (B, M) are value ids of the users' features, where the method reads them.
        """
        ...
