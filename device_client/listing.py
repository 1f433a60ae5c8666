"""What the cloud ranked for a device, and what the device does with it until the next time."""

from collections.abc import Callable, Sequence
from typing import Final

from device_client.cloud import Cloud, Identity, tell
from shared_models.contract.errors import ConcertoError
from shared_models.contract.manifest import RankingSpec
from shared_models.contract.ranking import Decision, RankedList, Ranking, Receipt, Source, Wanted
from shared_models.contract.tensors import Int64Array

RERANK: Final = "rerank"
"""The controller's output that is above 0 where the device's own order is the better one."""


class Listing:
    """The cloud's list of one session.

    Args:
        who: whose device it is.
        cloud: what ranks.
        spec: as the bundle says, under the device's own settings.

    Attributes:
        now: the list; None before the first one of a session.
    """

    __slots__ = ("_cloud", "_spec", "_who", "now")

    def __init__(self, who: Identity, cloud: Cloud, spec: RankingSpec) -> None:
        self._who, self._cloud, self._spec = who, cloud, spec
        self.now: RankedList | None = None

    def between(self, measure: Callable[[str], float]) -> Decision:
        """What to do where no new list is due.

        Args:
            measure: an output of the bundle's controller by name.
        """
        if self.now is None or self._spec.between == "rerank":
            return Decision.SCORE
        if self._spec.between == "controller" and measure(RERANK) > 0:
            return Decision.SCORE
        return Decision.KEEP

    async def ask(
        self, window: Sequence[int], slate: Int64Array, events_seen: int, at: float
    ) -> Receipt | None:
        """Get a new list; None, and the old one stays, where the cloud gives none."""
        few = len(slate) <= self._spec.longest
        wanted = Wanted(
            window, slate.tolist() if few else (), retrieve=0 if few else self._spec.longest
        )
        try:
            self.now, receipt = await self._cloud.rank(self._who, wanted, events_seen, at)
        except ConcertoError as error:
            tell("rank", self._who, error)
            return None
        return receipt

    def ranking(self, slate: Int64Array, events_seen: int, receipt: Receipt | None) -> Ranking:
        """``slate`` as the list has it; with a receipt where it has just come."""
        assert self.now is not None  # noqa: S101 - `between` keeps only what there is
        decision, source = Decision.KEEP, Source.LIST
        if receipt is not None:
            decision, source = Decision.ASK_CLOUD, Source.CLOUD
        age, bundle_id = events_seen - self.now.events_seen, self._who.bundle_id
        return Ranking(slate, self.now.of(slate), source, bundle_id, age, decision, receipt)
