"""One bundle's devices learn together: what a group shares, and how it moves on.

In a replay a group's next version is made at the end of a round, which is when the first ask of a
later round comes; so every device sees in a round what was contributed before it. Outside replays
it is made as soon as enough users have contributed.
"""

# Shapes: P numbers in all slots together.

import logging
from collections.abc import Mapping, Sequence

from cloud_server.federation.combine import combined
from cloud_server.federation.counters import Counters
from cloud_server.federation.journal import ALL, ContributionJournal, Version, Waiting
from cloud_server.federation.rules import OUTCOMES, Standing, judged
from cloud_server.groups import Assignment
from cloud_server.memory.store import LIVE
from protos.v1 import collaboration_pb2 as wire
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import BundleIncompatible
from shared_models.contract.federation import Layout, Outcome, Settled, vector_of
from shared_models.contract.manifest import FederationSpec
from shared_models.contract.overlay import Overlay, overlay_to_proto
from shared_models.contract.tensors import Codec, Float32Array

_log = logging.getLogger(__name__)


class Federation:
    """Judges contributions and releases versions. One thread at a time.

    Args:
        bundle: what the devices run.
        spec: how its devices learn together.
        groups: what group 1, 2, ... shares in the bundle itself, over its defaults.
        assignment: which user is in which group.
        journal: where contributions wait and versions stay.
        counters: told what was found.

    Raises:
        BundleIncompatible: the bundle lacks values to start from.
    """

    def __init__(
        self,
        bundle: Bundle,
        spec: FederationSpec,
        groups: Sequence[Mapping[str, Float32Array]],
        assignment: Assignment,
        journal: ContributionJournal,
        counters: Counters,
    ) -> None:
        self._bundle, self._spec, self._lineage = bundle, spec, bundle.lineage
        self._slots, self._assignment = bundle.manifest.slots, assignment
        self._layout = Layout(self._slots)
        self._journal, self._counters = journal, counters
        self._starts = [self._start({}), *(self._start(values) for values in groups)]
        self._round = LIVE

    def stored(self, user: int) -> int:
        """Number of contributions of ``user`` that were accepted so far."""
        return self._journal.stored(self._lineage, user)

    def values(self, user: int, round_: int, have: int | None, codec: Codec) -> wire.Overlay:
        """What the user's group shares; no slots where the device ``have`` it already."""
        self._enter(round_)
        group = self._assignment.of(user)
        version = self._newest(group)
        fresh = have is None or have != version.number
        slots = self._layout.slots(version.vector) if fresh else {}
        overlay = Overlay(self._bundle.id, 0, slots, group, version=version.number)
        return overlay_to_proto(overlay, codec)

    def take(self, user: int, round_: int, message: wire.Contribute) -> Settled:
        """Judge a contribution, and keep it where it counts."""
        self._enter(round_)
        group = self._assignment.of(user)
        standing = Standing(group, self.stored(user), self._newest(group).number)
        found = judged(message, standing, self._slots, self._spec)
        self._counters.findings[found.finding] += 1
        outcome = OUTCOMES.get(found.finding, Outcome.REFUSED)
        if found.move is None:
            return Settled(outcome, standing.stored, found.reason)
        new = Waiting(user, message.examples, found.move)
        self._journal.add(self._lineage, group, round_, new)
        self._release_crowded(round_, group)
        return Settled(outcome, standing.stored + 1)

    def _enter(self, round_: int) -> None:
        """End the rounds before ``round_``."""
        if round_ <= self._round:
            return
        for group in self._journal.due(self._lineage, round_):
            self._release(group, before=round_)
        self._round = round_

    def _release_crowded(self, round_: int, group: int) -> None:
        crowd = self._journal.contributors(self._lineage, group) if round_ == LIVE else 0
        if crowd >= self._spec.quorum:
            self._release(group, before=ALL)

    def _release(self, group: int, before: int) -> None:
        """Make a group's next version of what waits from before a round."""
        waiting = self._journal.waiting(self._lineage, group, before)
        move = combined([w.move for w in waiting], [w.examples for w in waiting], self._spec)
        number, vector = self._newest(group)
        self._journal.release(self._lineage, group, Version(number + 1, vector + move), before)
        self._counters.releases += 1
        told = (self._bundle.id[:12], group, number + 1, len(waiting))
        _log.info("bundle %s, group %d: version %d is made by %d users", *told)

    def _newest(self, group: int) -> Version:
        return self._journal.newest(self._lineage, group) or Version(0, self._starts[group])

    def _start(self, values: Mapping[str, Float32Array]) -> Float32Array:
        start = {**self._bundle.defaults, **values}
        if start.keys() != {slot.name for slot in self._slots}:
            raise BundleIncompatible(
                f"bundle {self._bundle.id[:12]} has slots to learn, and no values to start from"
            )
        return vector_of(start[slot.name] for slot in self._slots)
