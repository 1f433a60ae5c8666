"""The way of one user's events into the cloud's journal, whatever breaks on it."""

import asyncio
from typing import Final

from device_client.backoff import delays
from device_client.cloud import Cloud, Identity, tell
from device_client.outbox import Outbox
from device_client.settings import DeviceSettings
from shared_models.contract.errors import CloudUnavailable, TokenRefused
from shared_models.contract.events import Event, EventBatch

PIECE: Final = 1000
"""Most events of one message: after a long outage more wait than a cloud takes at once."""


class Uploads:
    """An outbox, and who empties it.

    Args:
        cloud: where events go.
        settings: how many wait, go together, and for how long.
    """

    __slots__ = ("_cloud", "_flush_s", "_outbox")

    def __init__(self, cloud: Cloud, settings: DeviceSettings) -> None:
        self._cloud, self._flush_s = cloud, settings.flush_s
        self._outbox = Outbox(settings.outbox, settings.upload_batch)

    @property
    def taken(self) -> int:
        """Events handed over to it so far."""
        return self._outbox.taken

    async def make_room(self, who: Identity) -> None:
        """See to it that another event fits.

        Raises:
            CloudUnavailable: the outbox is full and the cloud stayed away.
            BadAsk: the cloud refuses what waits.
        """
        if self._outbox.is_full:
            await self.flush(who)

    async def add(self, who: Identity, event: Event, *, sends: bool) -> None:
        """Take ``event``; with ``sends``, what waits goes up each time a batch is full.

        Raises:
            BadAsk: the cloud refuses what waits.
        """
        self._outbox.add(event)
        if sends and self._outbox.is_due:
            await self._send(who)

    async def pending(self, who: Identity, lag: int) -> EventBatch:
        """What waits but its newest ``lag`` events, for a refresh to bring.

        Of more than `PIECE` the older ones go up before.

        Raises:
            CloudUnavailable: nobody tells from which number on, or takes the older ones.
            TokenRefused: nobody tells it to this user.
            BadAsk: the cloud refuses the older ones.
        """
        await self._anchor(who)
        await self._send_pieces(who, len(self._outbox) - lag - PIECE)
        return self._outbox.pending(lag=lag)

    def acknowledged(self, stored: int) -> None:
        """Forget what the journal holds."""
        self._outbox.acknowledged(stored)

    async def flush(self, who: Identity) -> None:
        """Hand over every event that waits; waits for cloud and token up to ``flush_s``.

        Raises:
            CloudUnavailable: one was missing for as long; nothing is lost, the events still wait.
            BadAsk: the cloud refuses what waits.
        """
        if not self._outbox:
            return
        waits = delays(who.user)
        try:
            async with asyncio.timeout(self._flush_s):
                while not await self._send(who):
                    await asyncio.sleep(next(waits))
        except TimeoutError as error:
            raise CloudUnavailable(
                f"{len(self._outbox)} events of user {who.user} wait since "
                f"{self._flush_s:g} s for a cloud that is away or takes no token of theirs"
            ) from error

    async def _send(self, who: Identity) -> bool:
        """Send what waits; says whether nothing waits any more."""
        try:
            await self._anchor(who)
            await self._send_pieces(who, len(self._outbox))
        except (CloudUnavailable, TokenRefused) as error:
            # A token ends, and whoever renews it may come a moment late: a session is opened with
            # another one as soon as there is one.
            tell("upload", who, error)
        return not self._outbox

    async def _send_pieces(self, who: Identity, events: int) -> None:
        """Send the oldest pieces, until ``events`` are up."""
        for _ in range(0, events, PIECE):
            piece = self._outbox.oldest(PIECE)
            self._outbox.acknowledged(await self._cloud.upload(who, piece))

    async def _anchor(self, who: Identity) -> None:
        if not self._outbox.is_anchored:
            self._outbox.anchor(await self._cloud.events_stored(who))
