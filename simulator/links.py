"""Links between devices and their cloud, as data: profiles with a name, or a trace out of a file.

`simulator.modelled` says what an exchange costs on one in virtual time; `simulator.shaper` plays
one in real time. Loss is a stall and nothing else: no congestion control is imitated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from shared_models.contract.errors import BadLog, BadValue, TooSmall, UnknownName
from shared_models.contract.metrics import Float64Array
from shared_models.logs.files import read_table

# Shapes: N times, K points of a link.

BURST_BYTES: Final = 64 << 10
"""What crosses a link together, and is late or stalls together: at most so many bytes."""
COLUMNS: Final = ("seconds", "down_mbit", "up_mbit", "rtt_ms")
"""Of a trace file."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a link is like at a time: rates in bit/s, seconds for the least round trip."""

    seconds: float
    up_rate: float
    down_rate: float
    rtt_s: float


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a link is like at N times, float64 (N,): rates in bit/s, the round trip in seconds."""

    up_rate: Float64Array
    down_rate: Float64Array
    rtt_s: Float64Array


@dataclass(frozen=True)
class Link:
    """A link, one device's own.

    Attributes:
        name: of the profile, or of the trace's file.
        points: one for a link that stays as it is; those of a trace begin at 0 s, in order.
        jitter_s: a round trip is up to so many seconds late; each way draws its half uniformly.
        loss: share of bursts, each way, that stall once.
        stall_s: how long. Profiles take what Linux waits before it sends a lost segment again:
            200 ms (TCP_RTO_MIN) and a round trip.
        source: where the figures come from.
    """

    name: str
    points: tuple[Point, ...]
    jitter_s: float = 0.0
    loss: float = 0.0
    stall_s: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        seconds = [point.seconds for point in self.points]
        if seconds[:1] != [0.0] or any(later <= sooner for sooner, later in pairwise(seconds)):
            raise ValueError(f"link {self.name!r}: points must begin at 0 s and come in order")

    def at(self, seconds_N: Float64Array) -> Conditions:
        """The link at some times, from 0 on: linear between its points, and looped past its end."""
        seconds_K, *figures_K = self._columns
        within_N = np.mod(seconds_N, seconds_K[-1]) if len(seconds_K) > 1 else seconds_N
        return Conditions(*(np.interp(within_N, seconds_K, each_K) for each_K in figures_K))

    def point_at(self, seconds: float) -> Point:
        """The link at one time, as `at`."""
        now = self.at(np.array([seconds]))
        return Point(seconds, *(float(each[0]) for each in (now.up_rate, now.down_rate, now.rtt_s)))

    @cached_property
    def _columns(self) -> tuple[Float64Array, ...]:
        rows = [(each.seconds, each.up_rate, each.down_rate, each.rtt_s) for each in self.points]
        return tuple(np.array(rows, np.float64).T)


PROFILES: Final[Mapping[str, Link]] = {
    "wifi": Link(
        "wifi",
        (Point(0.0, up_rate=20e6, down_rate=100e6, rtt_s=0.020),),
        jitter_s=0.010,
        loss=0.001,
        stall_s=0.220,
        source="rates: what the FCC calls broadband since 2024, 100/20 Mbit/s; "
        "round trip, jitter and loss: typical figures, chosen",
    ),
    "5g": Link(
        "5g",
        (Point(0.0, up_rate=50e6, down_rate=100e6, rtt_s=0.030),),
        jitter_s=0.015,
        loss=0.002,
        stall_s=0.230,
        source="rates: user experienced data rate of IMT-2020 (ITU-R M.2410), 100/50 Mbit/s; "
        "round trip, jitter and loss: typical figures, chosen",
    ),
    "4g": Link(
        "4g",
        (Point(0.0, up_rate=12e6, down_rate=12e6, rtt_s=0.070),),
        jitter_s=0.030,
        loss=0.005,
        stall_s=0.270,
        source="rates and round trip: WebPageTest's profile LTE, 12/12 Mbit/s and 70 ms; "
        "jitter and loss: typical figures, chosen",
    ),
    "3g": Link(
        "3g",
        (Point(0.0, up_rate=0.768e6, down_rate=1.6e6, rtt_s=0.300),),
        jitter_s=0.100,
        loss=0.010,
        stall_s=0.500,
        source="rates and round trip: WebPageTest's profile 3G, 1.6/0.768 Mbit/s and 300 ms; "
        "jitter and loss: typical figures, chosen",
    ),
    "none": Link(
        "none",
        (Point(0.0, up_rate=np.inf, down_rate=np.inf, rtt_s=0.0),),
        source="no link: bytes pass as they come, and are counted",
    ),
}


def link(name: str) -> Link:
    """The profile of that name, or the trace in that file.

    Raises:
        UnknownName: neither; the message offers the nearest profile.
        PathMissing, BadLog: a file that is not there, or is no trace.
    """
    if name in PROFILES:
        return PROFILES[name]
    path = Path(name)
    if not path.suffix and not path.exists():
        raise UnknownName("link", name, PROFILES)
    return read_trace(path)


def read_trace(path: Path) -> Link:
    """A link out of a CSV or Parquet file with `COLUMNS`; times count from its first row.

    Raises:
        PathMissing, BadLog, BadValue, TooSmall: it cannot be used; the message names the file,
            the row (the header is row 1) and the column.
    """
    raw = read_table(path)
    for name in COLUMNS:
        if name not in raw.columns:
            has, wants = ", ".join(raw.columns), ", ".join(COLUMNS)
            raise BadLog(f"{path}: no column {name!r}; it has {has}. A trace has {wants}")
    if raw.is_empty():
        raise TooSmall(f"{path}: the trace is empty")
    for name in COLUMNS:
        # A date would be cast too, to its microseconds, and a list not at all.
        if not (raw[name].dtype.is_numeric() or raw[name].dtype == pl.String):
            raise BadValue(path, 2, name, f"expected a number, got {raw[name].dtype}")
    trace = raw.select(pl.col(COLUMNS).cast(pl.Float64, strict=False))
    for name in COLUMNS:
        _refuse(path, name, ~trace[name].is_finite().fill_null(value=False), "expected a number")
    for name in ("down_mbit", "up_mbit"):
        _refuse(path, name, trace[name] <= 0, "expected a rate above 0")
    _refuse(path, "rtt_ms", trace["rtt_ms"] < 0, "expected 0 or more")
    _refuse(path, "seconds", trace["seconds"].diff().fill_null(1) <= 0, "not after the row above")
    first = trace["seconds"][0]
    points = (
        Point(seconds - first, up * 1e6, down * 1e6, rtt / 1e3)
        for seconds, down, up, rtt in trace.iter_rows()
    )
    return Link(path.name, tuple(points), source=f"the trace {path}")


def _refuse(path: Path, column: str, wrong: pl.Series, problem: str) -> None:
    """Complain about the first row where ``wrong`` is true."""
    rows = wrong.arg_true()
    if len(rows):
        raise BadValue(path, int(rows[0]) + 2, column, problem)
