"""A device, whole: it observes, decides, asks when a rule says so, ranks, and never fails to."""

from collections.abc import Sequence
from typing import Final

from device_client.cloud import Cloud
from device_client.controller import decide
from device_client.history import History, items_needed
from device_client.outbox import Outbox
from device_client.overlays import OverlayShelf
from device_client.scorer import Scorer
from device_client.settings import DeviceSettings
from shared_models.contract.errors import BadAsk, CloudUnavailable, SlotMismatch
from shared_models.contract.events import Event
from shared_models.contract.ranking import Decision, Ranking, Source
from shared_models.contract.tensors import Int64Array

_CLOUD_FAILURES: Final = (CloudUnavailable, SlotMismatch, BadAsk)
"""What may go wrong with a refresh; it ends the refresh, never the ranking."""


class DeviceClient:
    """One user's device. Costs its vectors only: graphs and connections are shared.

    Args:
        user: as the prepared log numbers users.
        scorer: the active bundle.
        cloud: whom to ask.
        settings: of all devices.
        items: taken before, oldest first.
    """

    __slots__ = (
        "_cloud",
        "_history",
        "_overlays",
        "_refreshed_at",
        "_rule",
        "_scorer",
        "_settings",
        "outbox",
        "user",
    )

    def __init__(
        self,
        user: int,
        scorer: Scorer,
        cloud: Cloud,
        settings: DeviceSettings,
        items: Sequence[int] = (),
    ) -> None:
        manifest = scorer.manifest
        self.user, self.outbox = user, Outbox()
        self._scorer, self._cloud, self._settings = scorer, cloud, settings
        self._rule = settings.refresh or manifest.refresh
        self._history = History(items, items_needed(manifest, settings.uplink_lag))
        max_age = self._rule.max_age if self._rule.max_age is not None else manifest.refresh.max_age
        self._overlays = OverlayShelf(scorer.bundle_id, manifest.slots, max_age)
        self._refreshed_at: int | None = None

    def observe(self, event: Event) -> None:
        """Remember what the user took."""
        self._history.observe(event)
        if self._scorer.manifest.uploads:
            self.outbox.add(event)

    async def rank(self, candidates: Int64Array, at: float) -> Ranking:
        """Score ``candidates`` int64 (C,) at virtual time ``at``, with or without the cloud."""
        seen = self._history.events_seen
        decision = Decision.SCORE
        if self._scorer.manifest.uplink is not None:
            decision = decide(self._rule, events_seen=seen, refreshed_at=self._refreshed_at)
        late = decision is Decision.REFRESH and not await self._refreshed(at)
        overlay = self._overlays.current(seen)
        window = self._history.window(self._scorer.manifest.features.window)
        scores = self._scorer.score(window, candidates, overlay)
        source = Source.DEFAULT_WEIGHTS
        if overlay is not None:
            source = Source.STALE_OVERLAY if late else Source.OVERLAY
        age = overlay.age(seen) if overlay else None
        return Ranking(candidates, scores, source, self._scorer.bundle_id, age, decision)

    async def upload(self, at: float, *, everything: bool = False) -> bool:
        """Hand over full batches of events, or all; whether nothing is left to do."""
        least = 1 if everything else self._settings.upload_batch
        while len(self.outbox) >= least:
            batch = self.outbox.batch(self._settings.upload_batch)
            try:
                stored = await self._cloud.upload(self.user, batch, at=at)
            except CloudUnavailable:
                return False
            self.outbox.acknowledged(stored)
        return True

    async def _refreshed(self, at: float) -> bool:
        """Whether the cloud gave slot values for this moment."""
        uplink = self._scorer.manifest.uplink
        assert uplink is not None  # noqa: S101 - asked in `rank`
        lag = self._settings.uplink_lag
        seen = max(self._history.events_seen - lag, 0)
        items = self._history.window(uplink.items, lag)
        try:
            self._overlays.accept(
                await self._cloud.refresh(self.user, items, events_seen=seen, at=at)
            )
        except _CLOUD_FAILURES:
            return False
        self._refreshed_at = self._history.events_seen
        return True
