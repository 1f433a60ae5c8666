"""A device: ranks on its own, asks its cloud when that is due, and goes on without it.

One page tells the whole story: the window, the decision, the refresh, the overlay, one run of the
scorer, the ranking with its provenance, and only then what the user took, and learning from it.
"""

import asyncio
import logging
from array import array
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from device_client.backoff import delays
from device_client.cloud import Cloud, Identity
from device_client.controller import OUTPUTS, Situation, decide
from device_client.history import History
from device_client.learner import Learned
from device_client.outbox import Outbox
from device_client.overlays import Overlays
from device_client.scorer import Scorer
from device_client.settings import DeviceSettings
from shared_models.contract.errors import CloudUnavailable, ConcertoError
from shared_models.contract.events import Event
from shared_models.contract.manifest import RefreshRule
from shared_models.contract.overlay import Overlay
from shared_models.contract.ranking import Decision, Ranking, Receipt, Source
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.contract.uplink import Uplink

Decide = Callable[[RefreshRule, Situation, int], Decision]
_NO_ITEMS: Final[tuple[int, ...]] = ()
_log = logging.getLogger(__name__)


class DeviceClient:
    """One user's device. It does one thing at a time: its calls must not overlap.

    Args:
        user: whose device it is.
        scorer: the active bundle; shared by all devices of a process.
        cloud: whom it may ask.
        settings: how it works.
        items: what the user took before, oldest first.
        decide: takes the decision before each ranking.

    Attributes:
        profile: value ids of the user's features, where the bundle reads them.
    """

    __slots__ = (
        "_cloud",
        "_decide",
        "_group",
        "_history",
        "_learned",
        "_outbox",
        "_overlays",
        "_rankings",
        "_refreshed_at",
        "_refreshed_items",
        "_rule",
        "_scorer",
        "_settings",
        "_spent",
        "_who",
        "profile",
    )

    def __init__(
        self,
        user: int,
        scorer: Scorer,
        cloud: Cloud,
        settings: DeviceSettings,
        items: Sequence[int] = (),
        decide: Decide = decide,
    ) -> None:
        manifest = scorer.manifest
        self._who = Identity(user, scorer.bundle_id)
        self._scorer, self._cloud, self._settings, self._decide = scorer, cloud, settings, decide
        self._rule: RefreshRule = settings.rule(manifest)
        self._history = History(settings.memory(manifest), items)
        self._overlays = Overlays(scorer.bundle_id, manifest.slots, self._rule.max_age)
        self._outbox = Outbox(settings.outbox, settings.upload_batch) if manifest.uploads else None
        self._learned = Learned(scorer.learner, user, settings.seed) if scorer.learner else None
        self.profile: Sequence[int] = _NO_ITEMS
        self._refreshed_at: int | None = None
        self._refreshed_items: Sequence[int] = _NO_ITEMS
        self._rankings = self._spent = self._group = 0

    def switch(self, scorer: Scorer) -> None:
        """Run another bundle of the same method from the next ranking on.

        Overlays were made for the old one and go. What was learned here stays where the slots are
        the same ones; the window, and the events that wait for the cloud, stay in any case.
        """
        manifest, learner = scorer.manifest, scorer.learner
        if learner and self._learned and manifest.slot_schema == self._scorer.manifest.slot_schema:
            self._learned.move(learner)
        else:
            user, seed = self._who.user, self._settings.seed
            self._learned = Learned(learner, user, seed) if learner else None
        self._who, self._scorer = Identity(self._who.user, scorer.bundle_id), scorer
        self._rule = self._settings.rule(manifest)
        self._overlays = Overlays(scorer.bundle_id, manifest.slots, self._rule.max_age)
        self.forget_overlay()

    @property
    def learns(self) -> bool:
        """Whether it trains slots on what its user takes."""
        return self._learned is not None

    @property
    def state_bytes(self) -> int:
        """Bytes of the slot values, and of what learning keeps beside them."""
        return self._overlays.nbytes + (self._learned.nbytes if self._learned else 0)

    @property
    def events_seen(self) -> int:
        """Events of this user so far."""
        return self._history.events_seen

    @property
    def events_handed_over(self) -> int:
        """Events given to the outbox so far; none where the bundle allows no uploads."""
        return 0 if self._outbox is None else self._outbox.taken

    async def rank(self, candidates: Sequence[int] | Int64Array, at: float = 0.0) -> Ranking:
        """Score ``candidates``; a missing cloud makes the ranking older, never impossible.

        Args:
            candidates: item ids; those that the model does not know count as no item.
            at: virtual time in seconds.
        """
        slate = np.asarray(candidates, np.int64)
        self._rankings += 1
        decision = self._decide(self._rule, self._situation(), self._settings.seed)
        receipt = None
        if decision is Decision.ASK_CLOUD:
            scores, receipt = await self._ranked_by_cloud(slate, at)
            if scores is not None:
                return self._ranking(slate, scores, Source.CLOUD, None, decision, receipt)
        obeyed = decision is Decision.SCORE
        if decision is Decision.REFRESH:
            obeyed, receipt = await self._refresh(at)
        learned = self._learned.overlay if self._learned else None
        overlay = learned or self._overlays.current(self.events_seen)
        features = self._scorer.manifest.features
        window = features.encode_window(self._history.window(features.window))
        scores = self._scorer.score(window, slate, overlay, self.profile)
        if learned:
            return self._ranking(slate, scores, Source.LEARNED_WEIGHTS, None, decision, receipt)
        source = _source(overlay, obeyed=obeyed)
        return self._ranking(slate, scores, source, overlay, decision, receipt)

    async def observe(self, event: Event) -> None:
        """Take in what the user did; goes up to the cloud in batches where the bundle allows it.

        Raises:
            CloudUnavailable: the outbox is full and the cloud stayed away; `event` was not taken.
            BadAsk: the cloud refuses these events.
        """
        outbox = self._outbox
        if outbox is not None and outbox.is_full:
            await self.flush()
        self._history.observe(event)
        if outbox is None:
            return
        outbox.add(event)
        # Where refreshes bring what is pending, nothing goes up apart.
        if outbox.is_due and not self._brings_pending:
            await self._upload(outbox)

    async def share(self, at: float = 0.0) -> None:
        """Refresh where that is due and other users wait for what goes up, though nobody ranks."""
        if not self._scorer.manifest.cross_user:
            return
        if self._decide(self._rule, self._situation(), self._settings.seed) is Decision.REFRESH:
            await self._refresh(at)

    def learn(self) -> None:
        """Train the slots on what the user took lately, where a round is due and not yet done.

        Apart from `observe`, so that the app chooses when the device is idle enough for it.
        """
        if self._learned is not None:
            self._learned.study(self._history)

    async def flush(self) -> None:
        """Hand over every event that waits; waits for a missing cloud up to ``flush_s``.

        Raises:
            CloudUnavailable: it stayed away; nothing is lost, the events still wait.
        """
        outbox = self._outbox
        if outbox is None or not outbox:
            return
        waits = delays(self._who.user)
        try:
            async with asyncio.timeout(self._settings.flush_s):
                while not await self._upload(outbox):
                    await asyncio.sleep(next(waits))
        except TimeoutError as error:
            raise CloudUnavailable(
                f"{len(outbox)} events of user {self._who.user} wait since "
                f"{self._settings.flush_s:g} s for a cloud that is away"
            ) from error

    def forget_overlay(self) -> None:
        """Go back to the bundle's own slot values until the next refresh."""
        self._overlays.clear()
        self._refreshed_at, self._group = None, 0

    def _situation(self) -> Situation:
        granted = (self._rule.budget or 0) * self._rankings
        debt = self._spent - granted if self._rule.budget else 0
        return Situation(self._who.user, self.events_seen, self._refreshed_at, debt, self._measure)

    def _measure(self, output: str) -> float:
        return self._scorer.measure(output, self._items(), self._refreshed_items)

    @property
    def _brings_pending(self) -> bool:
        uplink = self._scorer.manifest.uplink
        return uplink is not None and uplink.pending and self._rule.rule != "never"

    def _items(self) -> list[int]:
        """The window that an uplink is about."""
        uplink = self._scorer.manifest.uplink
        return self._history.window(uplink.items if uplink else 0, self._settings.uplink_lag)

    async def _uplink(self, items: Sequence[int]) -> Uplink:
        """What goes up, as the manifest says."""
        spec = self._scorer.manifest.uplink
        if spec and spec.outputs:
            return Uplink(outputs=self._scorer.encode(items))
        if self._outbox is None or not self._brings_pending:
            return Uplink(items)
        if not self._outbox.is_anchored:
            self._outbox.anchor(await self._cloud.events_stored(self._who))
        return Uplink(pending=self._outbox.pending(lag=self._settings.uplink_lag))

    async def _refresh(self, at: float) -> tuple[bool, Receipt | None]:
        """Ask for new slot values; says whether they came and fit, and what they cost."""
        items, seen = self._items(), max(self.events_seen - self._settings.uplink_lag, 0)
        try:
            uplink = await self._uplink(items)
            overlay, receipt = await self._cloud.refresh(self._who, uplink, seen, at)
            self._spent += receipt.bytes_up + receipt.bytes_down
            if self._outbox is not None and uplink.pending is not None:
                self._outbox.acknowledged(overlay.events_stored)
            taken = self._overlays.accept(overlay)
            if taken and overlay.group not in (0, self._group):
                await self._join(overlay, at)
        except ConcertoError as error:
            _tell("refresh", self._who, error)
            return False, None
        if taken:
            self._refreshed_at = self.events_seen
            if self._rule.rule in OUTPUTS:
                self._refreshed_items = array("I", items)
        return taken, receipt

    async def _join(self, named: Overlay, at: float) -> None:
        """Take over what the group shares that an overlay names; it is as old as that overlay."""
        group, seen = named.group, named.events_seen
        shared, receipt = await self._cloud.group(self._who, group, seen, at)
        self._spent += receipt.bytes_up + receipt.bytes_down
        if self._overlays.accept(shared):
            self._group = group

    async def _ranked_by_cloud(
        self, slate: Int64Array, at: float
    ) -> tuple[Float32Array | None, Receipt | None]:
        items = self._history.window(self._scorer.manifest.features.window)
        try:
            return await self._cloud.rank(self._who, items, slate.tolist(), at)
        except ConcertoError as error:
            _tell("rank", self._who, error)
            return None, None

    async def _upload(self, outbox: Outbox) -> bool:
        """Send what waits; says whether nothing waits any more."""
        try:
            if not outbox.is_anchored:
                outbox.anchor(await self._cloud.events_stored(self._who))
            outbox.acknowledged(await self._cloud.upload(self._who, outbox.pending()))
        except CloudUnavailable as error:
            _tell("upload", self._who, error)
        return not outbox

    def _ranking(
        self,
        slate: Int64Array,
        scores: Float32Array,
        source: Source,
        overlay: Overlay | None,
        decision: Decision,
        receipt: Receipt | None,
    ) -> Ranking:
        age = overlay.age(self.events_seen) if overlay else None
        return Ranking(slate, scores, source, self._who.bundle_id, age, decision, receipt)


def _source(overlay: Overlay | None, *, obeyed: bool) -> Source:
    if overlay is None:
        return Source.DEFAULT_WEIGHTS
    return Source.OVERLAY if obeyed else Source.STALE_OVERLAY


def _tell(what: str, who: Identity, error: ConcertoError) -> None:
    """A missing cloud is a normal day; a cloud that refuses is news."""
    level = logging.DEBUG if isinstance(error, CloudUnavailable) else logging.WARNING
    _log.log(level, "user %d: no %s: %s", who.user, what, error)
