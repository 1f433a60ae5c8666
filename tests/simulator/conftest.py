"""Device processes as the simulator sees them, without devices: they answer from arithmetic."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from grpc import aio

from protos.v1 import simulation_pb2
from protos.v1.simulation_pb2 import (
    DECISION_REFRESH,
    SOURCE_OVERLAY,
    Begin,
    Joined,
    Moment,
    Order,
    Rankings,
    Ready,
    Report,
    Round,
    RoundDone,
    RunDone,
    Traffic,
    UserCount,
)
from protos.v1.simulation_pb2_grpc import SimulationStub
from shared_models.contract.bundle import Bundle
from shared_models.logs.moments import Moments

ITEMS = 30
MOMENTS = 120
USERS = 7


def make_moments(moments: int = MOMENTS, users: int = USERS, seed: int = 0) -> Moments:
    """Moments of a few users with between two and six candidates each, one of them taken."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, moments)
    sizes = rng.integers(2, 7, moments)
    candidates = np.concatenate([rng.permutation(ITEMS)[:size] + 1 for size in sizes])
    labels = np.zeros(len(candidates), bool)
    labels[np.cumsum(sizes) - rng.integers(1, sizes + 1)] = True
    seq = np.array([5 + int((user[:m] == user[m]).sum()) for m in range(moments)])
    begins = np.arange(moments) % 3 == 0
    return Moments(user, np.arange(moments, dtype=float), seq, sizes, candidates, labels, begins)


def make_bundle(*, cross_user: bool = False, release: int = 0) -> Bundle:
    """A bundle that no fake opens."""
    features = {"items": ITEMS, "window": 4}
    manifest = {
        "method": "fake",
        "config": {"release": release} if release else {},
        "log_hash": "0",
        "features": features,
        "graphs": {},
        "cross_user": cross_user,
    }
    return Bundle.make(manifest, {})


@pytest.fixture
def moments() -> Moments:
    return make_moments()


@dataclass
class FakeDevices:
    """One device process. Its scores depend on the candidates and on what its user did so far."""

    pid: int
    bundle_id: str
    dies_in_round: int | None = None
    hangs: bool = False
    seen: dict[int, list[int]] = field(default_factory=dict)
    rounds: list[int] = field(default_factory=list)
    handed_over: list[int] = field(default_factory=list)
    switches: list[str] = field(default_factory=list)
    is_stubborn: bool = False
    settings: str = ""

    async def run(self, address: str, on_round: Callable[["FakeDevices", int], None]) -> None:
        async with aio.insecure_channel(address) as channel:
            call = SimulationStub(channel).Join()
            await call.write(Report(joined=Joined(pid=self.pid)))
            async for order in call:
                if self.hangs:
                    await asyncio.sleep(60)
                for report in self._answers(order, on_round):
                    await call.write(report)
                if order.HasField("leave"):
                    await call.done_writing()

    def _answers(
        self, order: Order, on_round: Callable[["FakeDevices", int], None]
    ) -> Sequence[Report]:
        match order.WhichOneof("body"):
            case "begin":
                return [self._begin(order.begin)]
            case "round":
                on_round(self, order.round.number)
                return self._play(order.round)
            case "switch":
                self.switches.append(order.switch.bundle_id)
                active = self.bundle_id if self.is_stubborn else order.switch.bundle_id
                return [Report(ready=Ready(bundle_id=active, provider="FakeProvider"))]
            case "end":
                return [Report(run_done=self._done())]
            case _:
                return []

    def _begin(self, begin: Begin) -> Report:
        self.settings = begin.settings
        self.seen = {window.user: list(window.items) for window in begin.windows}
        return Report(ready=Ready(bundle_id=self.bundle_id, provider="FakeProvider"))

    def _play(self, part: Round) -> Sequence[Report]:
        if part.number == self.dies_in_round:
            raise asyncio.CancelledError
        self.rounds.append(part.number)
        if part.hand_over:
            self.handed_over.append(part.number)
        reports = []
        for moment in part.moments:
            if moment.behaviour_only:
                self.seen[moment.user].extend(moment.outcome)
            else:
                reports.append(Report(rankings=self._ranking(moment)))
        return [*reports, Report(round_done=self._round_done(part.number))]

    def _round_done(self, number: int) -> RoundDone:
        """A byte goes up each round."""
        spent = [Traffic(purpose="refresh", bytes_up=number)]
        return RoundDone(round=number, bytes_up=number, purposes=spent)

    def _ranking(self, moment: Moment) -> Rankings:
        history = self.seen[moment.user]
        candidates = np.frombuffer(moment.candidates, "<i4").tolist()
        scores = np.array([_score(history, item) for item in candidates], "<f4")
        history.extend(moment.outcome)
        return make_rankings([moment.index], scores, overlay_age=len(history) % 3)

    def _done(self) -> RunDone:
        traffic = [
            Traffic(user=user, purpose="refresh", bytes_up=10, bytes_down=len(items), asks=1)
            for user, items in self.seen.items()
        ]
        counts = [UserCount(user=user, count=len(items)) for user, items in self.seen.items()]
        traffic.append(Traffic(purpose="bundle", bytes_down=1000, asks=1))
        return RunDone(
            traffic=traffic,
            modules=["numpy"],
            resident_bytes=1 << 20,
            observed=counts,
            state_bytes=[UserCount(user=user, count=100 + user) for user in self.seen],
        )


def make_rankings(
    moments: Sequence[int],
    scores: np.ndarray[Any, Any],
    *,
    source: "simulation_pb2.Source.ValueType" = SOURCE_OVERLAY,
    overlay_age: int = 0,
) -> Rankings:
    """A report on some moments: each was refreshed for 20 B up and 100 B down within 1 ms."""
    count = len(moments)
    return Rankings(
        moments=moments,
        scores=scores.astype("<f4").tobytes(),
        sources=[source] * count,
        decisions=[DECISION_REFRESH] * count,
        overlay_ages=[overlay_age] * count,
        asks=[1] * count,
        bytes_up=[20] * count,
        bytes_down=[100] * count,
        seconds=[0.002] * count,
        cloud_seconds=[0.001] * count,
        exchanges=[1] * count,
        learning_seconds=[0.003] * count,
    )


def _score(history: Sequence[int], item: int) -> float:
    text = ",".join(map(str, [*history, item]))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:2], "big") / 65536


@pytest.fixture
async def crowd() -> AsyncIterator[Callable[..., list[FakeDevices]]]:
    """Starts fake device processes that dial an address; who is left at the end is cancelled."""
    running: list[asyncio.Task[None]] = []

    def start(
        address: str,
        count: int,
        bundle: Bundle,
        *,
        on_round: Callable[[FakeDevices, int], None] = lambda *_: None,
        dies_in_round: int | None = None,
    ) -> list[FakeDevices]:
        fakes = [FakeDevices(pid, bundle.id) for pid in range(count)]
        fakes[-1].dies_in_round = dies_in_round
        running.extend(asyncio.create_task(fake.run(address, on_round)) for fake in fakes)
        return fakes

    yield start
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
