"""Many virtual devices in one process, over one scorer and one cloud."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from device_client.bundles import BundleCache
from device_client.client import DeviceClient
from device_client.cloud import Cloud
from device_client.grpc_cloud import GrpcCloud
from device_client.ledger import DeviceLedger
from device_client.scorer import Scorer, activate
from device_client.settings import DeviceSettings
from device_client.tokens import TokenSource, no_token, token_file
from shared_models.contract.bundle import Bundle

T = TypeVar("T")


class Host:
    """The devices of one bundle; each costs its own vectors only.

    Args:
        scorer: the active bundle.
        cloud: whom the devices may ask.
        settings: how they work.

    Attributes:
        devices: by user.
    """

    def __init__(self, scorer: Scorer, cloud: Cloud, settings: DeviceSettings) -> None:
        self.scorer, self.settings = scorer, settings
        self.devices: dict[int, DeviceClient] = {}
        self._cloud = cloud

    def device(
        self, user: int, items: Sequence[int] = (), profile: Sequence[int] = ()
    ) -> DeviceClient:
        """The device of ``user``; a new one, which knows ``items``, where there is none."""
        device = self.devices.get(user)
        if device is None:
            own = (self.scorer, self._cloud, self.settings, items)
            device = DeviceClient(user, *own, profile=profile)
            self.devices[user] = device
        return device

    def switch(self, scorer: Scorer) -> None:
        """Let every device run another bundle of the same method; none may be ranking meanwhile."""
        self.scorer = scorer
        for device in self.devices.values():
            device.switch(scorer)

    async def flush(self) -> None:
        """Hand over the events of all devices.

        Raises:
            CloudUnavailable: the cloud stayed away.
        """
        await self.side_by_side(lambda device: device.flush(), self.devices.values())

    async def side_by_side(self, work: Callable[[T], Awaitable[None]], parts: Iterable[T]) -> None:
        """Do ``work`` for each of ``parts``, at most ``in_flight`` of them at the same time."""
        waiting = iter(parts)

        async def worker() -> None:
            for part in waiting:
                await work(part)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.settings.in_flight):
                    group.create_task(worker())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed


@asynccontextmanager
async def fetched(
    settings: DeviceSettings,
    method: str,
    ledger: DeviceLedger,
    seed: int = 0,
    tokens: TokenSource = no_token,
) -> AsyncIterator[tuple[Bundle, GrpcCloud]]:
    """The bundle that the cloud has released for ``method``, and the cloud.

    Args:
        settings: where their cloud is.
        method: empty for the cloud's only one.
        ledger: counts every byte.
        seed: spreads the retries of processes.
        tokens: prove whose sessions are.

    Raises:
        BundleError: the bundle is not there, or damaged.
        CertificateRefused: the cloud lets this process not in.
        CloudUnavailable: nobody answers.
        InputError: the method has no released bundle.
    """
    async with GrpcCloud(settings, ledger, tokens=tokens) as cloud:
        bundle_id = await cloud.released(method, seed)
        yield await _cache(settings, seed).obtain(bundle_id, cloud), cloud


@asynccontextmanager
async def hosted(
    settings: DeviceSettings, method: str, ledger: DeviceLedger, seed: int = 0
) -> AsyncIterator[tuple[Host, GrpcCloud]]:
    """As `fetched`, activated and with its devices.

    Raises:
        BundleRefused: the bundle does not work on this device.
    """
    tokens = token_file(settings.token) if settings.token else no_token
    async with fetched(settings, method, ledger, seed, tokens) as (bundle, cloud):
        yield Host(activate(bundle, settings), cloud, settings), cloud


async def announced_bundle(
    cloud: GrpcCloud,
    settings: DeviceSettings,
    method: str,
    bundle_id: str,
    seed: int = 0,
) -> Bundle:
    """``bundle_id`` once the cloud has announced it for ``method``.

    Raises:
        BundleError: it is not there, or damaged.
        CloudUnavailable: it was not announced in time.
    """
    await cloud.announced(method, bundle_id, seed)
    return await _cache(settings, seed).obtain(bundle_id, cloud)


async def updated(
    host: Host, cloud: GrpcCloud, bundle_id: str, seed: int = 0, *, offered: bool = False
) -> None:
    """Run ``bundle_id`` once the cloud has announced it; where it is no good, nothing changes.

    Args:
        host: whose devices change.
        cloud: theirs.
        bundle_id: of the same method.
        seed: spreads the retries of processes.
        offered: take it though it is not announced, which a drill does to see it refused.

    Raises:
        BundleError: the bundle is not there, damaged, or does not work on this device.
        CloudUnavailable: it was not announced in time.
    """
    if not offered:
        await cloud.announced(host.scorer.manifest.method, bundle_id, seed)
    bundle = await _cache(host.settings, seed).obtain(bundle_id, cloud)
    host.switch(activate(bundle, host.settings))


def _cache(settings: DeviceSettings, seed: int) -> BundleCache:
    return BundleCache(settings.bundles, seed, settings.bundle_bytes)
