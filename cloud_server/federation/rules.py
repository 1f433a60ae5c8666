"""What becomes of a contribution: every way in which it may be wrong, in the order of looking."""

# Shapes: P numbers in all slots together.

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from protos.v1.collaboration_pb2 import Contribute
from shared_models.contract.errors import BadAsk
from shared_models.contract.federation import Outcome, length_of, vector_of
from shared_models.contract.manifest import FederationSpec
from shared_models.contract.tensors import Float32Array, TensorSpec, tensor_from_proto

_SLACK: Final = 1 + 1e-3
"""A device's own limit and ours differ by what float32 and the codec lose."""


class Finding(StrEnum):
    """What was found of a contribution; each is counted."""

    FRESH = "fresh"
    """Started from the newest version."""
    LATE = "late"
    """Started from an older version that still counts."""
    DUPLICATE = "duplicate"
    """Accepted before."""
    STALE = "stale"
    """Started from a version that no longer counts."""
    OUT_OF_ORDER = "out_of_order"
    """An earlier one of the same user is missing."""
    IMPLAUSIBLE = "implausible"
    """Another group's, of a version that is not released yet, or learned from nothing."""
    MISSHAPEN = "misshapen"
    """Not the bundle's slots, or bytes that do not fill them."""
    NOT_FINITE = "not_finite"
    """Holds a number that is not one."""
    TOO_LONG = "too_long"
    """Moves further than the manifest allows."""


OUTCOMES: Final = {
    Finding.FRESH: Outcome.ACCEPTED,
    Finding.LATE: Outcome.ACCEPTED,
    Finding.DUPLICATE: Outcome.DUPLICATE,
    Finding.STALE: Outcome.STALE,
}
"""What a device is told; refused, where there is no entry."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the cloud knows when a contribution comes.

    Attributes:
        group: the user's.
        stored: contributions of the user that were accepted so far.
        version: of the group's newest values.
    """

    group: int
    stored: int
    version: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found, in a word and for a person; the move (P,) where it counts."""

    finding: Finding
    reason: str = ""
    move: Float32Array | None = None


def judged(
    message: Contribute, standing: Standing, slots: Sequence[TensorSpec], spec: FederationSpec
) -> Judgement:
    """Look at a contribution as it came. Nothing is decoded before its header is in order."""
    found = _of_header(message, standing, spec)
    if found.finding not in (Finding.FRESH, Finding.LATE):
        return found
    wanted = [(slot.name, slot.shape) for slot in slots]
    if [(delta.name, tuple(delta.shape)) for delta in message.deltas] != wanted:
        return Judgement(Finding.MISSHAPEN, "it moves other slots than the bundle's")
    try:
        move = vector_of([tensor_from_proto(delta) for delta in message.deltas])
    except BadAsk as error:
        return Judgement(Finding.MISSHAPEN, str(error))
    if not np.isfinite(move).all():
        return Judgement(Finding.NOT_FINITE, "it holds a number that is not finite")
    if (length := length_of(move)) > spec.norm * _SLACK:
        return Judgement(Finding.TOO_LONG, f"it moves {length:.3g}, at most {spec.norm:g} counts")
    return Judgement(found.finding, "", move)


def _of_header(message: Contribute, now: Standing, spec: FederationSpec) -> Judgement:
    if message.sequence != now.stored:
        before = message.sequence < now.stored
        finding = Finding.DUPLICATE if before else Finding.OUT_OF_ORDER
        return Judgement(finding, f"number {now.stored} comes next")
    if message.group != now.group:
        return Judgement(Finding.IMPLAUSIBLE, f"the user is in group {now.group}")
    if message.version > now.version:
        return Judgement(Finding.IMPLAUSIBLE, f"version {now.version} is the newest")
    if not message.examples:
        return Judgement(Finding.IMPLAUSIBLE, "it was learned from nothing")
    behind = now.version - message.version
    if behind > spec.stale:
        return Judgement(Finding.STALE, f"{behind} versions behind, at most {spec.stale} count")
    return Judgement(Finding.LATE if behind else Finding.FRESH)
