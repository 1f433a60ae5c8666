"""A device: ranks on its own, asks its cloud when that is due, and goes on without it.

One page tells the whole story: the window, the decision, the refresh, the overlay, one run of the
scorer, the ranking with its provenance, and only then what the user took, and learning from it.
"""

from array import array
from collections.abc import Sequence

import numpy as np

from device_client.allowance import LearningAccount
from device_client.cloud import Cloud, Identity, tell
from device_client.controller import Asking
from device_client.history import History
from device_client.learner import Learned, learned_of
from device_client.listing import Listing
from device_client.overlays import Overlays
from device_client.participant import participant_of
from device_client.scorer import Scorer
from device_client.settings import DeviceSettings
from device_client.uploads import Uploads
from shared_models.contract.errors import ConcertoError
from shared_models.contract.events import Event
from shared_models.contract.overlay import Overlay
from shared_models.contract.ranking import Decision, Ranking, Receipt, Source
from shared_models.contract.tensors import Int64Array
from shared_models.contract.uplink import Uplink


class DeviceClient:
    """One user's device. It does one thing at a time: its calls must not overlap.

    Args:
        user: whose device it is.
        scorer: the active bundle; shared by all devices of a process.
        cloud: whom it may ask.
        settings: how it works.
        items: what the user took before, oldest first.
        profile: value ids of the user's features, where the bundle reads them.
    """

    __slots__ = (
        "_account",
        "_asking",
        "_cloud",
        "_group",
        "_history",
        "_learned",
        "_listing",
        "_outgoing",
        "_overlays",
        "_participant",
        "_profile",
        "_scorer",
        "_settings",
        "_uploads",
        "_who",
    )

    def __init__(
        self,
        user: int,
        scorer: Scorer,
        cloud: Cloud,
        settings: DeviceSettings,
        items: Sequence[int] = (),
        profile: Sequence[int] = (),
    ) -> None:
        self._cloud, self._settings = cloud, settings
        self._history = History(settings.memory(scorer.manifest), items)
        self._outgoing: Uploads | None = None
        self._account = LearningAccount(settings.learning)
        self._profile = array("I", profile)
        self._learned: Learned | None = None
        self._asking = Asking(settings.rule(scorer.manifest), user, settings.seed)
        self._run(user, scorer)

    def switch(self, scorer: Scorer) -> None:
        """Run another bundle of the same method from the next ranking on.

        Overlays were made for the old one and go. What this device learned for itself stays where
        the slots are the same ones; what devices learn together begins anew from what the cloud
        shares. The window, and the events that wait for the cloud, stay in any case; where the new
        bundle allows no uploads they wait for one that does, and no more are taken.
        """
        self._history.keep(self._settings.memory(scorer.manifest))
        schema, learned = self._scorer.manifest.slot_schema, self._learned
        self._run(self._who.user, scorer)
        alone = scorer.manifest.slot_schema == schema and not scorer.manifest.shares
        if alone and learned and scorer.learner:
            self._learned = learned.under(scorer.learner)

    def _run(self, user: int, scorer: Scorer) -> None:
        tells = scorer.manifest.ranking and scorer.manifest.features.profile
        profile = tuple(self._profile) if tells else ()
        self._who, self._scorer = Identity(user, scorer.bundle_id, profile), scorer
        self._asking.rule = rule = self._settings.rule(scorer.manifest)
        spec = self._settings.ranking(scorer.manifest)
        self._listing = Listing(self._who, self._cloud, spec) if spec else None
        if scorer.manifest.uploads and self._outgoing is None:
            self._outgoing = Uploads(self._cloud, self._settings)
        self._uploads = self._outgoing if scorer.manifest.uploads else None
        slots = scorer.manifest.slots
        self._overlays = Overlays(scorer.bundle_id, slots, rule.max_age)
        self._learned = learned_of(scorer.learner, user, self._settings.seed, self._account)
        self.forget_overlay()

    @property
    def learns(self) -> bool:
        """Whether it trains slots on what its user takes."""
        return self._learned is not None

    @property
    def state_bytes(self) -> int:
        """Bytes of the slot values, and of what learning keeps beside them."""
        own = (self._overlays, self._learned, self._participant)
        return sum(each.nbytes for each in own if each is not None)

    @property
    def learning_steps(self) -> int:
        """Steps of learning so far."""
        return self._account.steps

    @property
    def events_seen(self) -> int:
        """Events of this user so far."""
        return self._history.events_seen

    @property
    def events_handed_over(self) -> int:
        """Events given to the outbox so far; none where no bundle has allowed uploads."""
        return 0 if self._outgoing is None else self._outgoing.taken

    async def rank(self, candidates: Sequence[int] | Int64Array, at: float = 0.0) -> Ranking:
        """Score ``candidates``; a missing cloud makes the ranking older, never impossible.

        Args:
            candidates: item ids; those that the model does not know count as no item.
            at: virtual time in seconds.
        """
        slate = np.asarray(candidates, np.int64)
        self._asking.ranks(self.events_seen)
        decision, receipt = self._decision(), None
        if self._listing and decision is Decision.ASK_CLOUD:
            items, seen = self._items(), max(self.events_seen - self._settings.uplink_lag, 0)
            receipt = await self._listing.ask(items, slate, seen, at)
            if self._asking.paid(receipt):
                self._asking.succeeded(self.events_seen, items)
        if self._listing and (receipt or decision is Decision.KEEP):
            return self._listing.ranking(slate, self.events_seen, receipt)
        fresh = decision is Decision.SCORE
        if decision is Decision.REFRESH:
            fresh, receipt = await self._refresh(at)
        return self._ranked(slate, decision, receipt, fresh=fresh)

    def begin_session(self) -> None:
        """Let go of what the cloud ranked for the last one."""
        if self._listing is not None:
            self._listing.now = None
            self._asking.forget()

    async def observe(self, event: Event) -> None:
        """Take in what the user did; goes up to the cloud in batches where the bundle allows it.

        Raises:
            CloudUnavailable: the outbox is full and the cloud stayed away; `event` was not taken.
            BadAsk: the cloud refuses these events.
        """
        uploads = self._uploads
        if uploads is not None:
            await uploads.make_room(self._who)
        self._history.observe(event)
        if uploads is not None:
            # Where refreshes bring what is pending, nothing goes up apart.
            await uploads.add(self._who, event, sends=not self._brings_pending)

    async def share(self, at: float = 0.0) -> None:
        """Refresh where that is due and other users wait for what goes up, though nobody ranks."""
        if self._scorer.manifest.cross_user and self._decision() is Decision.REFRESH:
            await self._refresh(at)

    def learn(self) -> None:
        """Train the slots on what the user took lately, where a round is due and not yet done.

        Apart from `observe`, so that the app chooses when the device is idle enough for it.
        """
        if self._learned is not None:
            self._learned.study(self._history)

    async def contribute(self, at: float = 0.0) -> None:
        """Hand over what was learned for all of a group, where the next refresh is due.

        Apart from `learn`, so that the app chooses when the device may send it.
        """
        if self._participant is not None and self._decision() is Decision.REFRESH:
            await self._participant.contribute(at)

    async def flush(self) -> None:
        """Hand over every event that waits; waits for a missing cloud up to ``flush_s``.

        Raises:
            CloudUnavailable: it stayed away; nothing is lost, the events still wait.
        """
        if self._uploads is not None:
            await self._uploads.flush(self._who)

    def forget_overlay(self) -> None:
        """Go back to the bundle's own slot values until the next refresh."""
        self._overlays.clear()
        self._asking.forget()
        self._group = 0
        own = (self._learned, self._cloud, self._account)
        self._participant = participant_of(self._who, self._scorer, *own)

    def _decision(self) -> Decision:
        decision = self._asking.decision(self.events_seen, self._measure)
        if self._listing is None:
            return decision
        is_due = decision is Decision.REFRESH
        return Decision.ASK_CLOUD if is_due else self._listing.between(self._measure)

    def _measure(self, output: str) -> float:
        return self._scorer.measure(output, self._items(), self._asking.items)

    @property
    def _brings_pending(self) -> bool:
        uplink = self._scorer.manifest.uplink
        return bool(uplink and uplink.pending) and self._asking.rule.rule != "never"

    def _items(self) -> list[int]:
        """The window that an uplink is about."""
        uplink = self._scorer.manifest.uplink
        return self._history.window(uplink.items if uplink else 0, self._settings.uplink_lag)

    async def _uplink(self, items: Sequence[int]) -> Uplink:
        """What goes up, as the manifest says."""
        spec = self._scorer.manifest.uplink
        if spec and spec.outputs:
            return Uplink(outputs=self._scorer.encode(items))
        if self._uploads is None or not self._brings_pending:
            return Uplink(items)
        return Uplink(pending=await self._uploads.pending(self._who, self._settings.uplink_lag))

    async def _refresh(self, at: float) -> tuple[bool, Receipt | None]:
        """Ask for new slot values; says whether they came and fit, and what they cost."""
        if self._participant is not None:
            receipt = await self._participant.take_over(self._overlays, self.events_seen, at)
            if self._asking.paid(receipt):
                self._asking.succeeded(self.events_seen)
            return receipt is not None, receipt
        items, seen = self._items(), max(self.events_seen - self._settings.uplink_lag, 0)
        receipt = None
        try:
            uplink = await self._uplink(items)
            overlay, receipt = await self._cloud.refresh(self._who, uplink, seen, at)
            self._asking.paid(receipt)
            if self._uploads is not None and uplink.pending is not None:
                self._uploads.acknowledged(overlay.events_stored)
            taken = self._overlays.accept(overlay)
            if taken and overlay.group not in (0, self._group):
                receipt += await self._join(overlay, at)
        except ConcertoError as error:
            tell("refresh", self._who, error)
            return False, receipt
        if taken:
            self._asking.succeeded(self.events_seen, items)
        return taken, receipt

    async def _join(self, named: Overlay, at: float) -> Receipt:
        """Take over what the group shares that an overlay names; it is as old as that overlay."""
        group, seen = named.group, named.events_seen
        shared, receipt = await self._cloud.group(self._who, group, seen, at)
        self._asking.paid(receipt)
        if self._overlays.accept(shared):
            self._group = group
        return receipt

    def _ranked(
        self, slate: Int64Array, decision: Decision, receipt: Receipt | None, *, fresh: bool
    ) -> Ranking:
        """What this device's own scorer makes of ``slate``."""
        seen, features = self.events_seen, self._scorer.manifest.features
        learned = self._learned.overlay if self._learned else None
        overlay = learned or self._overlays.current(seen)
        listed = self._listing.now if self._listing and features.prior else None
        prior = listed.of(slate) if listed else None
        window = features.encode_window(self._history.window(features.window))
        scores = self._scorer.score(window, slate, overlay, self._profile, prior)
        age = overlay.age(seen) if overlay and not learned else None
        source = Source.DEFAULT_WEIGHTS
        if learned:
            source = Source.LEARNED_WEIGHTS
        elif listed:
            source, age = Source.RERANKED, seen - listed.events_seen
        elif overlay:
            source = Source.OVERLAY if fresh else Source.STALE_OVERLAY
        return Ranking(slate, scores, source, self._who.bundle_id, age, decision, receipt)
