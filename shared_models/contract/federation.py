"""What a device learnt, on its way to the cloud: how far its slots moved, and nothing else."""

# Shapes: P numbers in all slots together.

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final

import numpy as np

from protos.v1 import collaboration_pb2 as wire
from shared_models.contract.tensors import (
    Codec,
    Float32Array,
    TensorSpec,
    tensor_to_proto,
    through,
)

CODEC: Final = Codec.I8ROW
"""A delta is small beside the values that it moves, and so is what a byte for each number loses."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one device adds to its group's next values.

    Attributes:
        sequence: its number in the life of the user's devices, from 0.
        group: the user's, from 1; 0 where the bundle has none.
        version: of the group's values that learning started from.
        examples: rows that the learning's steps read.
        deltas: float32 by slot, as `rounded` left them.
    """

    sequence: int
    group: int
    version: int
    examples: int
    deltas: Mapping[str, Float32Array]


class Outcome(StrEnum):
    """What became of a contribution."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    STALE = "stale"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Settled:
    """The cloud's word on a contribution.

    Attributes:
        outcome: what became of it.
        stored: contributions of the user that were accepted so far.
        reason: why it was not accepted.
    """

    outcome: Outcome
    stored: int
    reason: str = ""


_OUTCOMES: Final[Mapping[Outcome, wire.Outcome.ValueType]] = {
    Outcome.ACCEPTED: wire.OUTCOME_ACCEPTED,
    Outcome.DUPLICATE: wire.OUTCOME_DUPLICATE,
    Outcome.STALE: wire.OUTCOME_STALE,
    Outcome.REFUSED: wire.OUTCOME_REFUSED,
}
_BY_WIRE: Final = {number: outcome for outcome, number in _OUTCOMES.items()}


def vector_of(arrays: Iterable[Float32Array]) -> Float32Array:
    """All numbers of some slots in one vector (P,)."""
    return np.concatenate([array.ravel() for array in arrays], dtype=np.float32)


class Layout:
    """Where in one vector (P,) the numbers of each slot stand.

    Args:
        specs: the slots, in their order.
    """

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        shapes = [tuple(map(int, spec.shape)) for spec in specs]
        ends = list(accumulate(map(math.prod, shapes)))
        # Ready made: a step of learning asks for it, and may take no longer than its graph.
        names = (spec.name for spec in specs)
        self._places = list(zip(names, [0, *ends[:-1]], ends, shapes, strict=True))

    def slots(self, vector: Float32Array) -> dict[str, Float32Array]:
        """The vector by slot, without a copy."""
        return {name: vector[a:b].reshape(shape) for name, a, b, shape in self._places}


def length_of(vector: Float32Array) -> float:
    """Euclidean norm, summed in float64."""
    return float(np.linalg.norm(vector.astype(np.float64)))


def rounded(deltas: Mapping[str, Float32Array], longest: float) -> dict[str, Float32Array]:
    """``deltas`` as the cloud will read them, together no longer than ``longest``."""
    coarse = {name: through(CODEC, delta) for name, delta in deltas.items()}
    length = length_of(vector_of(coarse.values()))
    if length <= longest:
        return coarse
    # Multiples of a row's scale stay multiples of it: this costs no second rounding.
    share = np.float32(longest / length)
    return {name: delta * share for name, delta in coarse.items()}


def contribution_to_proto(contribution: Contribution) -> wire.Contribute:
    """Write a contribution; who makes it is said once, by the session's hello."""
    deltas = contribution.deltas.items()
    return wire.Contribute(
        sequence=contribution.sequence,
        group=contribution.group,
        version=contribution.version,
        examples=contribution.examples,
        deltas=[tensor_to_proto(name, delta, CODEC) for name, delta in deltas],
    )


def settled_to_proto(settled: Settled) -> wire.Contributed:
    """Write the cloud's word."""
    return wire.Contributed(
        outcome=_OUTCOMES[settled.outcome],
        contributions_stored=settled.stored,
        reason=settled.reason,
    )


def settled_from_proto(message: wire.Contributed) -> Settled:
    """Read the cloud's word; what this device does not know means refused."""
    outcome = _BY_WIRE.get(message.outcome, Outcome.REFUSED)
    return Settled(outcome, message.contributions_stored, message.reason)
