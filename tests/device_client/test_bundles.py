"""Bundles on their way to a device, behind the seam and over sockets."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from device_client.bundles import BundleCache
from device_client.cloud import AbsentCloud, Piece
from device_client.grpc_cloud import GrpcCloud
from device_client.ledger import DeviceLedger
from device_client.settings import DeviceSettings
from shared_models.contract.bundle import MANIFEST, Bundle, BundleStore, pack
from shared_models.contract.errors import BadSetting, BundleCorrupt, CloudUnavailable
from tests.device_client.fakes import LoopbackCloud, serving


class Tunnel:
    """A source of bundles that breaks at the given bytes, and keeps where it was asked to begin."""

    def __init__(self, bundle: Bundle, *breaks: int, flips: int = 0) -> None:
        self.bundle, self.packed = bundle, pack(bundle)
        self.breaks, self.flips = list(breaks), flips
        self.offsets: list[int] = []

    async def fetch_bundle(self, bundle_id: str, offset: int) -> AsyncGenerator[Piece, None]:
        assert bundle_id == self.bundle.id
        self.offsets.append(offset)
        total, data = len(self.packed), bytearray(self.packed)
        if self.flips:
            self.flips -= 1
            data[total // 3] ^= 1
        stop = self.breaks.pop(0) if self.breaks else total
        for start in range(offset, stop, 7):
            yield Piece(start, bytes(data[start : min(start + 7, stop)]), total)
        if stop < total:
            raise CloudUnavailable("a tunnel")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


@pytest.mark.parametrize("byte", [0, 1, 6, 7, 8, 500])
async def test_a_download_resumes_at_any_byte(bundle: Bundle, folder: Path, byte: int) -> None:
    tunnel = Tunnel(bundle, byte)

    got = await BundleCache(folder).obtain(bundle.id, tunnel)

    assert got.id == bundle.id
    assert tunnel.offsets == [0, byte]


async def test_a_fetched_bundle_is_kept_and_nothing_else(bundle: Bundle, folder: Path) -> None:
    await BundleCache(folder).obtain(bundle.id, Tunnel(bundle, 100))

    again = await BundleCache(folder).obtain(bundle.id, AbsentCloud())

    assert again.id == bundle.id
    assert [path.name for path in folder.iterdir()] == [bundle.id]


async def test_a_flipped_byte_is_refused_and_fetched_again(bundle: Bundle, folder: Path) -> None:
    tunnel = Tunnel(bundle, flips=1)

    got = await BundleCache(folder).obtain(bundle.id, tunnel)

    assert got.id == bundle.id
    assert tunnel.offsets == [0, 0]


async def test_downloads_that_always_come_damaged_end(bundle: Bundle, folder: Path) -> None:
    tunnel = Tunnel(bundle, flips=99)

    with pytest.raises(BundleCorrupt):
        await BundleCache(folder).obtain(bundle.id, tunnel)

    assert len(tunnel.offsets) == 3
    assert not list(folder.iterdir())


async def test_a_stream_that_brings_nothing_new_is_given_up(bundle: Bundle, folder: Path) -> None:
    tunnel = Tunnel(bundle, *[50] * 20)

    with pytest.raises(CloudUnavailable):
        await BundleCache(folder).obtain(bundle.id, tunnel)

    assert len(tunnel.offsets) == 5


async def test_a_kept_bundle_that_was_damaged_on_disk_is_fetched_again(
    bundle: Bundle, folder: Path
) -> None:
    path = BundleStore(folder).add(bundle) / "scorer.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    got = await BundleCache(folder).obtain(bundle.id, Tunnel(bundle))

    assert got.id == bundle.id
    assert BundleStore(folder).get(bundle.id).id == bundle.id


async def test_a_kept_bundle_of_which_a_kill_left_only_a_part_is_fetched_again(
    bundle: Bundle, folder: Path
) -> None:
    (BundleStore(folder).add(bundle) / MANIFEST).unlink()

    got = await BundleCache(folder).obtain(bundle.id, Tunnel(bundle))

    assert got.id == bundle.id
    assert BundleStore(folder).get(bundle.id).id == bundle.id


async def test_a_folder_that_cannot_hold_bundles_is_named(bundle: Bundle, folder: Path) -> None:
    folder.write_text("no folder")

    with pytest.raises(BadSetting, match=f"device.bundles.*{folder}"):
        await BundleCache(folder).obtain(bundle.id, Tunnel(bundle))


async def test_over_sockets_a_broken_and_a_damaged_download_both_end_well(
    bundle: Bundle, settings: DeviceSettings, ledger: DeviceLedger
) -> None:
    servicer = LoopbackCloud(bundle)
    servicer.flips, servicer.break_after = 1, [10**6, 333, 250]
    async with serving(servicer) as address:
        here = settings.model_copy(update={"cloud": address})
        async with GrpcCloud(here, ledger) as cloud:
            bundle_id = await cloud.released("tiny")
            got = await BundleCache(here.bundles).obtain(bundle_id, cloud)

    assert got.id == bundle.id
    # grpc may drop what was received and not read yet when a stream breaks.
    assert servicer.offsets[:2] == [0, 0]
    assert servicer.offsets[2] <= 333
    assert servicer.offsets[3] <= servicer.offsets[2] + 250
    assert len(servicer.offsets) == 4
    purposes = {(user, purpose) for user, purpose, _ in ledger.rows()}
    assert purposes == {(None, "bundle")}
