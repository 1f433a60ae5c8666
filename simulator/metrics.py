"""What a simulator counts while it replays, and how Prometheus sees it."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from typing_extensions import override

from protos.v1.simulation_pb2 import RoundDone
from shared_models.contract.tensors import Int64Array
from shared_models.exposition import SECONDS, Distribution
from simulator.rounds import Share
from simulator.tally import DECISIONS, SOURCES, Tally

_KEY: Final = ("entry", "seed")
_CODES: Final = 256
"""More than there are sources or decisions."""


class RunCounts:
    """What one run has come to. One thread writes; another may read.

    Args:
        key: label of the entry, and the seed.
        bundle_id: what devices begin with.
        moments: of the whole run.

    Attributes:
        recommendations: by source and decision.
        seconds: that each took on its device.
    """

    def __init__(self, key: tuple[str, str], bundle_id: str, moments: int) -> None:
        self.key, self.bundle_id, self.moments = key, bundle_id, moments
        self.recommendations: Counter[tuple[str, str]] = Counter()
        self.seconds = Distribution(SECONDS)
        self._processes = 0
        self._rounds: Counter[int] = Counter()
        self._payload: dict[tuple[int, int, str], tuple[int, int]] = {}

    @property
    def rounds(self) -> int:
        """Rounds that every process has ended."""
        ended = list(self._rounds.values())
        return min(ended, default=0) if len(ended) == self._processes else 0

    @property
    def payload(self) -> Counter[tuple[str, str]]:
        """Bytes by purpose and direction, as processes told at the ends of rounds."""
        sums: Counter[tuple[str, str]] = Counter()
        for (*_, purpose), (up, down) in list(self._payload.items()):
            sums[purpose, "up"] += up
            sums[purpose, "down"] += down
        return sums

    def ranked(self, tally: Tally, about: Int64Array) -> None:
        """Count the moments that were just entered into ``tally``."""
        self.seconds.add_all(tally.seconds[about])
        codes = tally.sources[about].astype(np.int64) * _CODES + tally.decisions[about]
        for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
            source, decision = divmod(int(code), _CODES)
            self.recommendations[SOURCES[source], DECISIONS[decision]] += int(count)

    def round_done(self, share: Share, pid: int, done: RoundDone) -> None:
        """Take in that a process has ended a round, and what it spent until then.

        One that takes a killed one's place has another ``pid``, and counts from 0.
        """
        self._processes = share.count
        self._rounds[share.index] += 1
        for spent in done.purposes:
            spends = share.index, pid, spent.purpose
            self._payload[spends] = spent.bytes_up, spent.bytes_down


class ReplayMetrics(Collector):
    """A simulator at the time of a scrape; `docs/observe.md` says what each metric means.

    Attributes:
        joined: how many device processes are there.
    """

    def __init__(self) -> None:
        self.joined: Callable[[], int] = lambda: 0
        self._runs: list[RunCounts] = []

    def begin(self, entry: str, seed: int, bundle_id: str, moments: int) -> RunCounts:
        """Where another run is counted."""
        run = RunCounts((entry, str(seed)), bundle_id, moments)
        self._runs.append(run)
        return run

    @override
    def collect(self) -> Iterator[Metric]:
        runs = list(self._runs)
        yield GaugeMetricFamily("concerto_replay_devices", "Device processes.", self.joined())
        info = GaugeMetricFamily(
            "concerto_replay_info", "Runs; 1 for the newest.", labels=[*_KEY, "bundle_id"]
        )
        planned = GaugeMetricFamily(
            "concerto_replay_moments_planned", "Moments of the whole run.", labels=_KEY
        )
        rounds = CounterMetricFamily(
            "concerto_replay_rounds", "Rounds that all processes have ended.", labels=_KEY
        )
        for run in runs:
            info.add_metric([*run.key, run.bundle_id], run is runs[-1])
            planned.add_metric(run.key, run.moments)
            rounds.add_metric(run.key, run.rounds)
        yield from (info, planned, rounds)
        yield from _recommended(runs)
        yield _payload(runs)


def _recommended(runs: list[RunCounts]) -> Iterator[Metric]:
    count = CounterMetricFamily(
        "concerto_replay_recommendations",
        "Moments played, by what the ranking was made with and what the device decided.",
        labels=[*_KEY, "source", "decision"],
    )
    seconds = HistogramMetricFamily(
        "concerto_replay_recommendation_seconds",
        "What a recommendation took on its device, the cloud included.",
        labels=_KEY,
    )
    for run in runs:
        for how, number in list(run.recommendations.items()):
            count.add_metric([*run.key, *how], number)
        run.seconds.show(seconds, run.key)
    yield from (count, seconds)


def _payload(runs: list[RunCounts]) -> Metric:
    payload = CounterMetricFamily(
        "concerto_replay_payload_bytes",
        "Message bytes, as devices count them.",
        labels=[*_KEY, "purpose", "direction"],
    )
    for run in runs:
        for what, size in run.payload.items():
            payload.add_metric([*run.key, *what], size)
    return payload
