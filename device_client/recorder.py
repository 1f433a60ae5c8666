"""A cloud whose acknowledgements are written down, so that they can be checked after a run."""

import os
from collections.abc import AsyncGenerator
from pathlib import Path

from device_client.cloud import Cloud, Identity, Piece
from shared_models.contract import history
from shared_models.contract.events import EventBatch
from shared_models.contract.federation import Contribution, Settled
from shared_models.contract.overlay import Overlay
from shared_models.contract.ranking import RankedList, Receipt, Wanted
from shared_models.contract.uplink import Uplink


class History:
    """An append-only file: what was written survives a process that is killed.

    Args:
        folder: made where there is none; each process has a file of its own there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"device-{os.getpid()}{history.SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def add(self, entry: history.Entry) -> None:
        """Write down ``entry``."""
        os.write(self._file, history.line(entry).encode())


class RecordingCloud:
    """A `Cloud` that passes everything on, and writes down what is sent and acknowledged.

    Args:
        cloud: who answers.
        written: where that goes.
    """

    def __init__(self, cloud: Cloud, written: History) -> None:
        self._cloud, self._written = cloud, written

    async def released(self, method: str) -> str:
        """Passed on."""
        return await self._cloud.released(method)

    def fetch_bundle(self, bundle_id: str, offset: int) -> AsyncGenerator[Piece, None]:
        """Passed on."""
        return self._cloud.fetch_bundle(bundle_id, offset)

    async def refresh(
        self, who: Identity, uplink: Uplink, events_seen: int, at: float
    ) -> tuple[Overlay, Receipt]:
        """Writes down the events that it brings, and the vector that the cloud keeps since."""
        self._written.add(history.RefreshSent(who.user, who.bundle_id))
        if uplink.pending is not None:
            self._sends(who, uplink.pending)
        overlay, receipt = await self._cloud.refresh(who, uplink, events_seen, at)
        if uplink.pending is not None:
            self._written.add(history.EventsStored(who.user, overlay.events_stored))
        if overlay.kept is not None:
            self._written.add(history.VectorKept(who.user, who.bundle_id, *overlay.kept))
        return overlay, receipt

    async def group(
        self, who: Identity, number: int, events_seen: int, at: float
    ) -> tuple[Overlay, Receipt]:
        """Passed on."""
        return await self._cloud.group(who, number, events_seen, at)

    async def shared(
        self, who: Identity, have: int | None, events_seen: int, at: float
    ) -> tuple[Overlay, Receipt]:
        """Passed on."""
        return await self._cloud.shared(who, have, events_seen, at)

    async def contributions_stored(self, who: Identity) -> int:
        """Passed on."""
        return await self._cloud.contributions_stored(who)

    async def contribute(
        self, who: Identity, contribution: Contribution, at: float
    ) -> tuple[Settled, Receipt]:
        """Writes down the contribution, and how many of this user's are accepted after it."""
        self._written.add(history.ContributionSent(who.user, who.bundle_id, contribution.sequence))
        settled, receipt = await self._cloud.contribute(who, contribution, at)
        self._written.add(history.ContributionsStored(who.user, who.bundle_id, settled.stored))
        return settled, receipt

    async def rank(
        self, who: Identity, wanted: Wanted, events_seen: int, at: float
    ) -> tuple[RankedList, Receipt]:
        """Passed on."""
        return await self._cloud.rank(who, wanted, events_seen, at)

    async def events_stored(self, who: Identity) -> int:
        """Passed on."""
        return await self._cloud.events_stored(who)

    async def upload(self, who: Identity, batch: EventBatch) -> int:
        """Writes down the events, and how many of this user's are stored after them."""
        self._sends(who, batch)
        stored = await self._cloud.upload(who, batch)
        self._written.add(history.EventsStored(who.user, stored))
        return stored

    def _sends(self, who: Identity, batch: EventBatch) -> None:
        items = [event.item for event in batch.events]
        at = [event.at for event in batch.events]
        self._written.add(history.EventsSent(who.user, batch.first, items, at))


def recorded(cloud: Cloud, folder: Path | None) -> Cloud:
    """``cloud``, what it acknowledges written down in ``folder``; None: nowhere."""
    return cloud if folder is None else RecordingCloud(cloud, History(folder))
