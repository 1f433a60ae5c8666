"""What a cloud counts while it serves, and how Prometheus sees it."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from typing_extensions import override

from cloud_server.bundles import Bundles
from cloud_server.events import Uploads
from cloud_server.models import Models
from shared_models.contract.traffic import PURPOSES
from shared_models.exposition import SECONDS, Distribution

OK: Final = "ok"
"""Status of an ask that was answered; any other is the code of the error that came instead."""
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Upper bounds for the asks that share a batch."""


class Counts:
    """What happened since the cloud began. One thread writes; another may read.

    Attributes:
        asks: of sessions, by kind and status.
        seconds: from an ask's last byte to its answer's first one, by kind.
        payload: bytes up and down, by purpose.
        sessions: that are open now.
    """

    def __init__(self) -> None:
        self.asks: Counter[tuple[str, str]] = Counter()
        self.seconds: defaultdict[str, Distribution] = defaultdict(lambda: Distribution(SECONDS))
        self.payload = {purpose: [0, 0] for purpose in PURPOSES}
        self.sessions = 0

    def answered(self, kind: str, status: str, seconds: float) -> None:
        """Count an ask of a session.

        Args:
            kind: what was asked, as in ``refresh``.
            status: `OK`, or the code of an error.
            seconds: that it took.
        """
        self.asks[kind, status] += 1
        self.seconds[kind].add(seconds)

    def carried(self, purpose: str, up: int, down: int) -> None:
        """Count payload bytes for one of `PURPOSES`."""
        bytes_ = self.payload[purpose]
        bytes_[0] += up
        bytes_[1] += down


class Sources(NamedTuple):
    """What is read at a scrape."""

    counts: Counts
    bundles: Bundles
    models: Models
    uploads: Uploads


class CloudMetrics(Collector):
    """A cloud at the time of a scrape; `docs/observe.md` says what each metric means."""

    def __init__(self, sources: Sources) -> None:
        self._counts, self._bundles, self._models, self._uploads = sources

    @override
    def collect(self) -> Iterator[Metric]:
        yield from self._asks()
        yield from self._batches()
        yield self._payload()
        yield GaugeMetricFamily("concerto_sessions", "Open sessions.", self._counts.sessions)
        yield self._released()
        yield CounterMetricFamily(
            "concerto_journal_events", "Uploaded events put on disk.", self._uploads.appended
        )
        yield from self._learnt()

    def _asks(self) -> Iterator[Metric]:
        asks = CounterMetricFamily(
            "concerto_asks", "Asks of sessions, by kind and status.", labels=["kind", "status"]
        )
        for labels, count in list(self._counts.asks.items()):
            asks.add_metric(labels, count)
        yield asks
        seconds = HistogramMetricFamily(
            "concerto_ask_seconds", "From an ask's arrival to its answer.", labels=["kind"]
        )
        for kind, taken in list(self._counts.seconds.items()):
            taken.show(seconds, [kind])
        yield seconds

    def _batches(self) -> Iterator[Metric]:
        waiting: Counter[str] = Counter()
        shared: defaultdict[str, Distribution] = defaultdict(lambda: Distribution(_SIZES))
        # Two bundles of a method have a batcher each, and count as one.
        for batcher in [self._uploads.commits, *self._models.batchers]:
            waiting[batcher.name] += batcher.waiting
            for size, times in list(batcher.sizes.items()):
                shared[batcher.name].add(size, times)
        depth = GaugeMetricFamily(
            "concerto_queue_depth", "Asks that wait for their batch.", labels=["queue"]
        )
        sizes = HistogramMetricFamily(
            "concerto_batch_size", "Asks that shared a batch.", labels=["queue"]
        )
        for name, count in waiting.items():
            depth.add_metric([name], count)
            shared[name].show(sizes, [name])
        yield from (depth, sizes)

    def _payload(self) -> Metric:
        payload = CounterMetricFamily(
            "concerto_payload_bytes", "Message bytes.", labels=["purpose", "direction"]
        )
        for purpose, (up, down) in self._counts.payload.items():
            payload.add_metric([purpose, "up"], up)
            payload.add_metric([purpose, "down"], down)
        return payload

    def _released(self) -> Metric:
        released = GaugeMetricFamily(
            "concerto_bundle_info", "What is released, always 1.", labels=["method", "bundle_id"]
        )
        for labels in self._bundles.released.items():
            released.add_metric(labels, 1)
        return released

    def _learnt(self) -> Iterator[Metric]:
        counts = dict(self._models.contributions)
        yield CounterMetricFamily(
            "concerto_group_versions", "Versions made of contributions.", counts.pop("releases")
        )
        contributions = CounterMetricFamily(
            "concerto_contributions", "What devices learnt, by its outcome.", labels=["outcome"]
        )
        for outcome, count in counts.items():
            contributions.add_metric([outcome], count)
        yield contributions
