"""A bad release in the folder of a cloud: never announced, taken back, also by the next cloud."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from cloud_server.bundles import Bundles
from protos.v1.collaboration_pb2 import Release
from shared_models.contract.bundle import MANIFEST, Bundle, BundleStore
from shared_models.contract.errors import BundleError, BundleRefused
from simulator.poison import name_released, poison
from tests.device_client.bad_bundles import KINDS, Bad, good_bundle
from tests.device_client.fakes import build_bundle

ON_DISK = [kind for kind in KINDS if kind not in ("truncated", "one byte flipped")]
"""Of the kinds of bad bundles, what may lie in a cloud's folder."""
TOO_LARGE = ("too large", "small, and large once unpacked")
"""For the devices of some tests; a cloud has no such bound."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = BundleStore(tmp_path / "bundles")
    store.add(good_bundle())
    store.release(good_bundle())
    return tmp_path / "bundles"


def put(root: Path, bad: Bad) -> None:
    """Release a bad bundle, as a broken build would."""
    folder = root / bad.bundle_id
    folder.mkdir()
    inside = {name: data for name, data in bad.files.items() if "/" not in name}
    for name, data in {MANIFEST: bad.manifest, **inside}.items():
        (folder / name).write_bytes(data)
    name_released(root, "tiny", bad.bundle_id)


async def first(releases: AsyncIterator[Release]) -> str:
    return (await anext(releases)).bundle_id


@pytest.mark.parametrize("kind", [kind for kind in ON_DISK if kind not in TOO_LARGE])
async def test_a_bad_release_is_not_announced_and_is_taken_back(kind: str, root: Path) -> None:
    bundles, good = Bundles(root), good_bundle()
    await bundles.settle()
    put(root, KINDS[kind][0]())

    async with aclosing(bundles.releases("tiny")) as releases:
        assert await first(releases) == good.id
        await bundles.refresh()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(first(releases), 0.05)

    assert bundles.released == {"tiny": good.id}
    assert BundleStore(root).released() == {"tiny": good.id}


async def test_a_cloud_that_starts_on_a_bad_release_goes_back_to_what_was_announced_last(
    root: Path,
) -> None:
    await Bundles(root).settle()
    put(root, KINDS["NaN weights"][0]())

    later = Bundles(root)
    await later.settle()

    assert later.released == BundleStore(root).released() == {"tiny": good_bundle().id}


async def test_a_cloud_that_knows_of_nothing_better_does_not_start_on_a_bad_release(
    root: Path,
) -> None:
    put(root, KINDS["failing test vector"][0]())

    with pytest.raises(BundleRefused, match="test vector does not come out"):
        await Bundles(root).settle()


async def test_a_good_release_after_a_bad_one_is_announced(root: Path) -> None:
    bundles, better = Bundles(root), build_bundle(uploads=True)
    await bundles.settle()
    put(root, KINDS["no graph at all"][0]())
    await bundles.refresh()
    store = BundleStore(root)
    store.add(better)
    store.release(better)

    await bundles.refresh()

    assert bundles.released == {"tiny": better.id}
    assert json.loads((root / "announced.json").read_text()) == {"tiny": better.id}


async def test_a_first_release_that_is_no_good_does_not_keep_others_from_being_noticed(
    root: Path,
) -> None:
    store, better = BundleStore(root), build_bundle(uploads=True)
    bundles = Bundles(root)
    await bundles.settle()
    name_released(root, "another", "f" * 64)
    await bundles.refresh()
    store.add(better)
    store.release(better)

    await bundles.refresh()

    assert bundles.released == {"tiny": better.id}


async def test_a_release_that_was_replaced_meanwhile_is_not_taken_back(root: Path) -> None:
    store, better = BundleStore(root), build_bundle(uploads=True)
    store.add(better)
    bad = KINDS["no graph at all"][0]()
    put(root, bad)

    def meanwhile(_: Bundle) -> None:
        store.release(better)
        raise BundleRefused("no good")

    bundles = Bundles(root, proof=meanwhile)
    bundles._announced.write({"tiny": good_bundle().id})
    await bundles.settle()

    assert store.released() == {"tiny": better.id}


@pytest.mark.parametrize(
    "how", ["nan-weights", "flipped-byte", "test-vector", "no-graph", "newer-format"]
)
def test_every_poison_of_a_drill_is_one(how: str, root: Path) -> None:
    bundle_id = poison(good_bundle(), how, root)  # type: ignore[arg-type]
    bundles = Bundles(root)

    assert bundle_id != good_bundle().id
    with pytest.raises(BundleError):
        bundles._proof(bundles.read(bundle_id))
