"""A graph with a rare class, and device processes that say what they are told to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import zstandard
from grpc import aio

from protos.v1.simulation_pb2 import (
    Arrival,
    Classified,
    Joined,
    Order,
    Ready,
    Report,
    RoundDone,
    RunDone,
    Traffic,
    UserCount,
)
from protos.v1.simulation_pb2_grpc import SimulationStub
from shared_models.contract.bundle import Bundle
from shared_models.contract.nodes import NodeGraph
from shared_models.logs.graphs.labelled import LabelledGraph
from tests.device_client.node_bundles import CLASSES, FEATURES, WEIGHTS

NODES = 200


@pytest.fixture
def graph() -> LabelledGraph:
    """A fifth of the nodes are of class 1, and have one neighbour each; every third one tests."""
    rng = np.random.default_rng(0)
    classes = (np.arange(NODES) % 5 == 0).astype(int)
    common = np.flatnonzero(classes == 0)
    pairs = np.concatenate(
        [
            rng.choice(common, (2, 4 * NODES)),
            np.stack([np.flatnonzero(classes), rng.choice(common, classes.sum())]),
        ],
        axis=1,
    )
    features = rng.random((NODES, FEATURES), np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[classes]
    labels[-3:] = 0
    parts = (np.arange(NODES) % 3).astype(np.int8)
    ids = [f"n{node}" for node in range(NODES)]
    whole = NodeGraph.whole(features, pairs)
    return LabelledGraph("rare", ids, whole, labels, labels.any(1), parts, multi_label=False)


@dataclass
class FakeGraphDevices:
    """A process whose devices score a node by its own features alone.

    Attributes:
        met: arrivals of each user, in order.
        lies: what it does to a report before it sends it.
    """

    pid: int
    bundle_id: str
    lies: Callable[[Classified], None] = lambda _: None
    met: dict[int, list[Arrival]] = field(default_factory=dict)
    settings: str = ""

    async def run(self, address: str) -> None:
        async with aio.insecure_channel(address) as channel:
            call = SimulationStub(channel).Join()
            await call.write(Report(joined=Joined(pid=self.pid)))
            async for order in call:
                for report in self._answers(order):
                    await call.write(report)
                if order.HasField("leave"):
                    await call.done_writing()

    def features(self, user: int) -> np.ndarray:
        raw = b"".join(zstandard.decompress(each.features) for each in self.met[user])
        return np.frombuffer(raw, "<f4").reshape(-1, FEATURES)

    def _answers(self, order: Order) -> Sequence[Report]:
        match order.WhichOneof("body"):
            case "begin":
                self.settings = order.begin.settings
                return [Report(ready=Ready(bundle_id=self.bundle_id, provider="Fake"))]
            case "round":
                said = [Report(classified=self._say(each)) for each in order.round.arrivals]
                return [*said, Report(round_done=RoundDone(round=order.round.number))]
            case "end":
                return [Report(run_done=self._done())]
            case _:
                return []

    def _say(self, arrival: Arrival) -> Classified:
        self.met.setdefault(arrival.user, []).append(arrival)
        scores = (self.features(arrival.user) @ WEIGHTS)[list(arrival.asked)]
        said = Classified(
            arrivals=[arrival.index], scores=scores.astype("<f4").tobytes(), seconds=[0.001]
        )
        self.lies(said)
        return said

    def _done(self) -> RunDone:
        return RunDone(
            traffic=[Traffic(purpose="bundle", bytes_down=1000, asks=1)],
            modules=["numpy"],
            resident_bytes=1 << 20,
            state_bytes=[UserCount(user=user, count=100) for user in self.met],
        )


@pytest.fixture
async def graph_crowd() -> AsyncIterator[Callable[..., list[FakeGraphDevices]]]:
    """Starts fake device processes that dial an address; who is left at the end is cancelled."""
    running: list[asyncio.Task[None]] = []

    def start(
        address: str,
        count: int,
        bundle: Bundle,
        lies: Callable[[Classified], None] = lambda _: None,
    ) -> list[FakeGraphDevices]:
        fakes = [FakeGraphDevices(pid, bundle.id, lies) for pid in range(count)]
        running.extend(asyncio.create_task(fake.run(address)) for fake in fakes)
        return fakes

    yield start
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
