"""What happened between two looks at a process: rates, means and quantiles of its counters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from simulator.top.scrape import Scrape

_STARTED: Final = "process_start_time_seconds"


@dataclass(frozen=True, slots=True)
class Change:
    """From one look to a later one; without an earlier one, since the process began.

    Attributes:
        now: the later look.
        before: the earlier one.
    """

    now: Scrape
    before: Scrape | None = None

    @property
    def seconds(self) -> float:
        """Between the two; nan where that is not known."""
        start = self.before.at if self._goes_on and self.before else self.now.value(_STARTED)
        elapsed = self.now.at - start if start else 0.0
        return elapsed if elapsed > 0 else math.nan

    def grown(self, name: str, **labels: str) -> float:
        """By how much a counter has grown."""
        past = self.before.value(name, **labels) if self._goes_on and self.before else 0.0
        return self.now.value(name, **labels) - past

    def rate(self, name: str, **labels: str) -> float:
        """The same a second."""
        return self.grown(name, **labels) / self.seconds

    def mean(self, name: str, **labels: str) -> float:
        """Of what a histogram has counted meanwhile; nan for nothing."""
        count = self.grown(f"{name}_count", **labels)
        return self.grown(f"{name}_sum", **labels) / count if count else math.nan

    def quantile(self, share: float, name: str, **labels: str) -> float:
        """Of what a histogram has counted meanwhile, as Prometheus' ``histogram_quantile``.

        Inside a bucket values are taken to be spread evenly; beyond the last bound, that bound
        stands for them. Nan for nothing.
        """
        bounds = [text for (text,) in self.now.labels(f"{name}_bucket", "le")]
        counts = [self.grown(f"{name}_bucket", le=bound, **labels) for bound in bounds]
        return _quantile(share, list(map(float, bounds)), counts)

    @property
    def _goes_on(self) -> bool:
        """Whether the earlier look was at the same process; another one counts from 0 again."""
        return self.before is not None and (self.before.value(_STARTED) == self.now.value(_STARTED))


def _quantile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float:
    """Of cumulative ``counts`` up to each of the ascending ``bounds``, the last one infinite."""
    if not counts or not counts[-1]:
        return math.nan
    wanted, below, lower = share * counts[-1], 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=True):
        if count >= wanted and count > below:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (wanted - below) / (count - below)
        below, lower = count, bound
    return math.nan
