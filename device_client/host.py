"""Many virtual devices in one process, over one graph and one connection."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from grpc import aio

from device_client.bundles import BundleFetcher
from device_client.channel import open_channel
from device_client.client import DeviceClient
from device_client.grpc_cloud import GrpcCloud
from device_client.ledger import Ledger
from device_client.scorer import Scorer, activate
from device_client.settings import DeviceSettings
from shared_models.contract.errors import CloudUnavailable

_PAUSE_S = 0.2


class Host:
    """The devices of one run: a bundle, a cloud, and a client for each user.

    Args:
        scorer: the active bundle.
        cloud: shared by all.
        channel: the cloud's; closed with the host.
        settings: of every device.
        ledger: what they spend.
    """

    def __init__(
        self,
        scorer: Scorer,
        cloud: GrpcCloud,
        channel: aio.Channel,
        settings: DeviceSettings,
        ledger: Ledger,
    ) -> None:
        self.scorer, self.settings, self.ledger = scorer, settings, ledger
        self._cloud, self._channel = cloud, channel
        self._clients: dict[int, DeviceClient] = {}

    @classmethod
    async def start(
        cls, address: str, method: str, folder: Path, settings: DeviceSettings, *, waits: bool
    ) -> "Host":
        """Fetch and activate the released bundle of ``method``.

        Raises:
            CloudUnavailable, BundleError: there is none, or it is not to be trusted.
        """
        ledger, channel = Ledger(), open_channel(address)
        try:
            fetcher = BundleFetcher(channel, address, folder, ledger, settings.fetch_s)
            bundle = await fetcher.fetch_bundle(await fetcher.released(method))
            scorer = activate(bundle, settings.providers)
        except BaseException:
            await channel.close()
            raise
        cloud = GrpcCloud(
            channel, address, bundle.id, ledger, waits=waits, open_sessions=settings.open_sessions
        )
        return cls(scorer, cloud, channel, settings, ledger)

    def adopt(self, windows: Mapping[int, Sequence[int]]) -> None:
        """Make a device for each user, who took these items before (oldest first)."""
        for user, items in windows.items():
            self._clients[user] = self._new(user, items)

    def client(self, user: int) -> DeviceClient:
        """The device of ``user``; a new one if need be."""
        if user not in self._clients:
            self._clients[user] = self._new(user, ())
        return self._clients[user]

    def observed(self) -> dict[int, int]:
        """Events that each device wants on the cloud's disk, handed over or not."""
        return {user: client.outbox.observed for user, client in self._clients.items()}

    async def flush(self, at: float) -> None:
        """Hand over what every outbox holds.

        Raises:
            CloudUnavailable: the cloud stayed away for `DeviceSettings.flush_s`.
        """
        waiting = [client for client in self._clients.values() if len(client.outbox)]
        try:
            async with asyncio.timeout(self.settings.flush_s):
                for client in waiting:
                    while not await client.upload(at, everything=True):
                        await asyncio.sleep(_PAUSE_S)
        except TimeoutError as error:
            left = sum(len(client.outbox) for client in waiting)
            raise CloudUnavailable(f"{left} events could not be handed over") from error

    async def close(self) -> None:
        """Close sessions and connection."""
        await self._cloud.close()
        await self._channel.close()

    def _new(self, user: int, items: Sequence[int]) -> DeviceClient:
        return DeviceClient(user, self.scorer, self._cloud, self.settings, items)
