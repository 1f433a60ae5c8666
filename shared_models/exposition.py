"""Where Prometheus reads what a process counts.

Whoever counts keeps plain numbers in one thread, because that is on the way of every ask: 0.8 us,
where the counters of `prometheus_client`, which lock, took 3.4 us. A scrape comes in a thread of
its own and reads what stands there then.
"""

import errno
import logging
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from shared_models.contract.errors import BadSetting, PortTaken
from shared_models.contract.log_lines import note

_log = logging.getLogger(__name__)
_LOOPBACK: Final = "127.0.0.1"
SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds for times, from what a device takes alone to what a bad link makes of it."""


class Distribution:
    """How many values lie between bounds: the plain side of a Prometheus histogram.

    Args:
        bounds: upper ones, each included, ascending; what is larger is counted beyond the last.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def add_all(self, values: ArrayLike) -> None:
        """Count many values at once."""
        places = np.searchsorted(self._bounds, values)
        for place, count in zip(*np.unique(places, return_counts=True), strict=True):
            self._counts[place] += int(count)
        self._sum += float(np.sum(values))

    def show(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Put it into ``family``, under the values of its labels."""
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        family.add_metric(
            labels, list(zip(names, accumulate(self._counts), strict=True)), self._sum
        )


@dataclass(frozen=True, slots=True)
class Exposition:
    """What is shown, and where.

    Attributes:
        registry: of this process alone; it holds memory, descriptors and processor time already.
        url: to scrape; None where nobody may.
    """

    registry: CollectorRegistry
    url: str | None


@contextmanager
def exposed(listen: str | None) -> Iterator[Exposition]:
    """Let ``HOST:PORT`` be scraped, or ``PORT`` of this machine alone, until the context is left.

    Raises:
        BadSetting: it is no address, or not one of this machine.
        PortTaken: somebody else listens there.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    if listen is None:
        yield Exposition(registry, None)
        return
    host, port = _address(listen)
    try:
        server, thread = start_http_server(port, host.strip("[]"), registry)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(listen) from error
        raise BadSetting("metrics", f"{listen}: {error.strerror}") from error
    try:
        url = f"http://{host}:{server.server_port}/metrics"
        note(_log, "metrics are shown", url=url)
        yield Exposition(registry, url)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or (colon and not host):
        raise BadSetting("metrics", f"write HOST:PORT, such as 0.0.0.0:9464, or PORT, not {listen}")
    return host or _LOOPBACK, int(port)
