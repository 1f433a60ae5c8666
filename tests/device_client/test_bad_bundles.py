"""Bad bundles that a cloud offers in mid-run: none is ever run, and each refusal has its reason."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from typing_extensions import override

from device_client.agent import Agent
from device_client.settings import DeviceSettings
from protos.v1 import collaboration_pb2 as wire
from protos.v1 import simulation_pb2 as plane
from shared_models.contract.bundle import BundleStore, pack
from tests.device_client.bad_bundles import KINDS, LIMIT, Bad, good_bundle
from tests.device_client.fakes import LoopbackCloud, serving
from tests.device_client.test_agent import END, LEAVE, Script, begin, moment, round_of, simulating


class PoisonedCloud(LoopbackCloud):
    """A cloud that offers whatever it has, unlooked at."""

    def __init__(self, bad: Bad) -> None:
        super().__init__(good_bundle())
        self._offers = {bad.bundle_id: bad.packed, self.bundle.id: pack(self.bundle)}

    @override
    async def FetchBundle(
        self, request: wire.BundleRequest, context: Any
    ) -> AsyncIterator[wire.Chunk]:
        data = self._offers[request.id]
        for start in range(request.offset, len(data), 64 << 10):
            piece = data[start : start + (64 << 10)]
            yield wire.Chunk(offset=start, data=piece, total=len(data))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bad_bundle_is_refused_in_mid_run_and_devices_go_on_with_the_last_good_one(
    kind: str, settings: DeviceSettings
) -> None:
    make, code = KINDS[kind]
    bad = make()
    offer = plane.Order(switch=plane.Switch(bundle_id=bad.bundle_id, offered=True))
    rounds = [round_of(number, moment(0, 1, [3, 7], (3,))) for number in (1, 2)]
    script = Script(begin(windows={1: [2]}), rounds[0], offer, rounds[1], END, LEAVE)
    here = settings.model_copy(update={"bundle_bytes": LIMIT})

    async with serving(PoisonedCloud(bad)) as cloud, simulating(script) as address:
        await Agent(here.model_copy(update={"cloud": cloud}), address).follow()

    good = good_bundle().id
    first, second = script.said("ready")
    assert [first.bundle_id, second.bundle_id] == [good, good]
    assert not first.HasField("refusal")
    assert second.refusal.code == code
    assert second.refusal.message
    sources = [list(page.sources) for page in script.said("rankings")]
    assert sources == [[plane.SOURCE_OVERLAY], [plane.SOURCE_OVERLAY]]
    assert BundleStore(here.bundles).get(good).id == good


def test_there_are_at_least_twelve_kinds_and_the_good_bundle_is_good() -> None:
    bundle = good_bundle()

    bundle.check_defaults()
    assert len(KINDS) >= 12
    assert bundle.id not in {make().bundle_id for make, _ in KINDS.values()}
