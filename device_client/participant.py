"""A device's part in learning together: its moves go up, its group's next values come down.

A device starts from a version of what its group shares. When its next refresh is due it first
hands over how far learning has moved its slots since, then asks for the group's newest version; if
that is a newer one, it starts anew from there. Until then it goes on from where it is, and its next
contribution holds only what was added since the last one. What the codec or the manifest's limit
cut off stays with the device, and goes up the next time.
"""

# Shapes: P numbers in all slots together.

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from device_client.allowance import LearningAccount
from device_client.cloud import Cloud, Identity, tell
from device_client.learner import Learned
from device_client.overlays import Overlays
from device_client.scorer import Scorer
from shared_models.contract.errors import ConcertoError
from shared_models.contract.federation import Contribution, rounded, vector_of
from shared_models.contract.manifest import Manifest
from shared_models.contract.ranking import Receipt
from shared_models.contract.tensors import Float32Array, TensorSpec

_log = logging.getLogger(__name__)
_HEADER: Final = 256
_PLACE: Final = 64
_NUMBER: Final = 5
_NOTHING: Final = np.zeros(0, np.float32)


class Participant:
    """One device among those that share their slots' values.

    Args:
        who: whose device it is.
        manifest: of its bundle.
        learned: what it learns; None where devices of the bundle only take over.
        cloud: whom it may ask.
        account: what learning has cost it.
    """

    __slots__ = (
        "_account",
        "_cloud",
        "_federation",
        "_group",
        "_largest",
        "_learned",
        "_origin",
        "_pending",
        "_sequence",
        "_slots",
        "_version",
        "_who",
    )

    def __init__(
        self,
        who: Identity,
        manifest: Manifest,
        learned: Learned | None,
        cloud: Cloud,
        account: LearningAccount,
    ) -> None:
        self._who, self._slots, self._cloud = who, manifest.slots, cloud
        self._learned, self._account = learned, account
        self._federation = manifest.federation
        self._largest = largest_exchange(manifest.slots)
        self._group = 0
        # Without groups everybody starts from what the bundle itself holds.
        self._version: int | None = None if manifest.groups else 0
        self._origin: Float32Array = learned.values if learned else _NOTHING
        self._pending: Contribution | None = None
        self._sequence: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes kept beside the slots' values: up to where its moves are told, and what waits."""
        moved = self._learned is not None and self._origin is not self._learned.start
        waiting = self._pending.deltas.values() if self._pending else ()
        return moved * self._origin.nbytes + sum(delta.nbytes for delta in waiting)

    async def contribute(self, at: float) -> None:
        """Hand over what was learned since the last time, if anything was.

        What no answer came to goes up the next time as it is: the cloud counts it once.
        """
        if self._federation is None or not self._account.affords_bytes(self._largest):
            return
        try:
            if self._sequence is None:
                self._sequence = await self._cloud.contributions_stored(self._who)
            longest = self._federation.norm
            self._pending = self._pending or self._drawn_up(self._sequence, longest)
            if self._pending is None:
                return
            self._account.bytes += self._largest
            settled, receipt = await self._cloud.contribute(self._who, self._pending, at)
        except ConcertoError as error:
            tell("contribution", self._who, error)
            return
        self._refund(receipt)
        self._pending, self._sequence = None, settled.stored
        if settled.reason:
            _log.debug("user %d: %s: %s", self._who.user, settled.outcome, settled.reason)

    async def take_over(self, overlays: Overlays, events_seen: int, at: float) -> Receipt | None:
        """Let the group's newest values rank, and start learning from them, where they are new.

        Returns:
            What the question cost; None where there was no answer, or none that fits, or the
            allowance did not bear it.
        """
        if not self._account.affords_bytes(self._largest):
            return None
        self._account.bytes += self._largest
        try:
            shared, receipt = await self._cloud.shared(self._who, self._version, events_seen, at)
            shared.check(self._slots)
        except ConcertoError as error:
            tell("refresh", self._who, error)
            return None
        self._refund(receipt)
        self._group, self._version = shared.group, shared.version
        if not shared.slots:
            overlays.confirm(events_seen)
            return receipt
        if self._learned:
            shared = replace(shared, slots=self._learned.start_from(shared.slots))
            self._origin = self._learned.values
        overlays.accept(shared)
        return receipt

    def _refund(self, receipt: Receipt) -> None:
        """An exchange was paid in advance as the largest that it could be."""
        self._account.bytes += receipt.bytes_up + receipt.bytes_down - self._largest

    def _drawn_up(self, sequence: int, longest: float) -> Contribution | None:
        """What was learned since the last contribution, which is taken as handed over from here."""
        learned = self._learned
        if learned is None or self._version is None:
            return None
        deltas = rounded(learned.slots(learned.values - self._origin), longest)
        examples = learned.take_examples()
        if not examples or not any(delta.any() for delta in deltas.values()):
            return None
        self._origin = self._origin + vector_of(deltas.values())
        return Contribution(sequence, self._group, self._version, examples, deltas)


def largest_exchange(slots: Sequence[TensorSpec]) -> int:
    """Bytes, both ways, that handing over or taking over these slots costs at most.

    A number takes four bytes, or one and its share of a row's scale, which is at most four.
    """
    return _HEADER + sum(_PLACE + len(slot.name) + _NUMBER * slot.size for slot in slots)


def participant_of(
    who: Identity, scorer: Scorer, learned: Learned | None, cloud: Cloud, account: LearningAccount
) -> Participant | None:
    """The part that a device takes, where its bundle shares anything."""
    manifest = scorer.manifest
    return Participant(who, manifest, learned, cloud, account) if manifest.shares else None
