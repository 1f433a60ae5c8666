"""What rankings would have taken over a link, from the bytes and times that were measured.

Modelled, not measured: reports keep the two apart. `bench.links` holds this against the same
scenario through the shaping proxy.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from shared_models.contract.metrics import Float64Array
from shared_models.contract.tensors import Int64Array
from simulator.links import BURST_BYTES, Link

# Shapes: N rankings.


@dataclass(frozen=True, slots=True)
class Framing:
    """Predicted bytes of an exchange on the wire beside its two messages."""

    up: int
    down: int


COLUMN: Final = "modelled_"
STREAMED: Final = Framing(up=40, down=40)
"""One exchange at a time on an open stream of gRPC in clear: 14 bytes of frame headers each way,
and 26 of window updates."""


@dataclass(frozen=True, slots=True)
class Exchanges:
    """N rankings, and what each one asked of the cloud.

    Attributes:
        entry: int64 (N,), number of each ranking in its log; names its chance.
        at: float64 (N,), virtual time in seconds.
        count: int64 (N,), how many each waited for, one after the other; 0: nobody was asked.
        bytes_up: int64 (N,), payload to the cloud.
        bytes_down: int64 (N,), payload from the cloud.
        compute_s: float64 (N,), seconds measured on the device, in the cloud's queue, in the cloud.
    """

    entry: Int64Array
    at: Float64Array
    count: Int64Array
    bytes_up: Int64Array
    bytes_down: Int64Array
    compute_s: Float64Array


def modelled_seconds(
    link: Link, exchanges: Exchanges, seed: int, framing: Framing = STREAMED
) -> Float64Array:
    """Seconds that each ranking would take if its device had ``link``, float64 (N,).

    Compute; and where the cloud was asked, also the round trip with the jitter and the stalls that
    chance draws, and both messages at the rates of that moment. Every exchange finds an open
    session on an idle link; a second one of a ranking waits for the first, and is as late.

    Args:
        link: of every device.
        exchanges: what was measured.
        seed: chance depends on it and on the entry alone; so links are compared in pairs.
        framing: what each exchange adds to its payload.
    """
    now = link.at(exchanges.at)
    count_N = exchanges.count
    up_N = exchanges.bytes_up + count_N * framing.up
    down_N = exchanges.bytes_down + count_N * framing.down
    late_up_N, late_down_N, lost_up_N, lost_down_N = _chance(seed, exchanges.entry)
    jitter_N = (late_up_N + late_down_N) * link.jitter_s / 2
    stalls_N = _stalled(link, up_N, lost_up_N) + _stalled(link, down_N, lost_down_N)
    transfer_N = up_N * 8 / now.up_rate + down_N * 8 / now.down_rate
    way_N = count_N * (now.rtt_s + jitter_N) + stalls_N * link.stall_s + transfer_N
    return exchanges.compute_s + np.where(count_N > 0, way_N, 0.0)


def with_modelled(
    rankings: pl.DataFrame, entry_N: Int64Array, links: Iterable[Link], seed: int
) -> pl.DataFrame:
    """``rankings`` with a column ``modelled_<link>`` of seconds for each link.

    All null where the cloud did not tell of some how long it queued and computed: what is left
    would be those that asked nobody, which no link slows down.

    Args:
        rankings: with the cloud's times.
        entry_N: number of each ranking's moment in the log.
        links: to model.
        seed: of jitter and loss.
    """
    asked = rankings["ask"] > 0
    compute = pl.col("seconds") - pl.when(asked).then(
        pl.col("cloud_seconds") - pl.col("queue_seconds") - pl.col("compute_seconds")
    ).otherwise(0)
    known = rankings.select(compute.cast(pl.Float64)).to_series()
    compute_s = np.full(len(known), np.nan) if known.null_count() else known.to_numpy()
    exchanges = Exchanges(
        entry=entry_N,
        at=rankings["at"].to_numpy(),
        count=rankings["exchanges"].cast(pl.Int64).to_numpy(),
        bytes_up=rankings["bytes_up"].cast(pl.Int64).to_numpy(),
        bytes_down=rankings["bytes_down"].cast(pl.Int64).to_numpy(),
        compute_s=compute_s,
    )
    return rankings.with_columns(
        pl.Series(COLUMN + link.name, modelled_seconds(link, exchanges, seed)).fill_nan(None)
        for link in links
    )


def modelled_of(rankings: pl.DataFrame) -> dict[str, Float64Array]:
    """By link, the modelled seconds that are known, of rankings as of `with_modelled`."""
    names = [name for name in rankings.columns if name.startswith(COLUMN)]
    return {name.removeprefix(COLUMN): rankings[name].drop_nulls().to_numpy() for name in names}


def _chance(seed: int, entry_N: Int64Array) -> Float64Array:
    """Four numbers below 1 for each entry, (4, N): its row of a table that ``seed`` makes."""
    rows = int(entry_N.max(initial=-1)) + 1
    table = np.random.Generator(np.random.Philox(key=seed)).random((rows, 4))
    return table[entry_N].T


def _stalled(link: Link, bytes_N: Int64Array, chance_N: Float64Array) -> Float64Array:
    """Whether a message stalls, 0 or 1: one of its bursts is lost."""
    bursts_N = -(-bytes_N // BURST_BYTES)
    return (chance_N < 1 - (1 - link.loss) ** bursts_N).astype(np.float64)
