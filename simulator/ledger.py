"""The account of every payload byte: who sent it, why, and in which direction.

Devices count what they serialise; a `Ledger` adds the counts up. What serves recommendations
(`PAYLOAD`) is given per recommendation; bundles and control stand apart, never silently spread.

Devices of a process share a connection, so nobody can measure the framing of one of them: here it
is modelled, and named so. `simulator.wire` has it measured, by connection.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl

from protos.v1.simulation_pb2 import Traffic
from shared_models.contract.traffic import BUNDLE, CONTROL
from simulator.framing import SESSION, exchange

SCHEMA: Final = {
    "method": pl.String,
    "seed": pl.Int64,
    "user": pl.Int64,  # null: traffic of a whole process
    "purpose": pl.String,  # one of PURPOSES
    "bytes_up": pl.Int64,  # from devices to the cloud
    "bytes_down": pl.Int64,  # from the cloud to devices
    "asks": pl.Int64,
    "framing_up_modelled": pl.Float64,  # null for bundles, which serve a process
    "framing_down_modelled": pl.Float64,
}
_KEYS: Final = ("method", "seed", "user", "purpose")
_COUNTS: Final = ("bytes_up", "bytes_down", "asks")
_MODELLED: Final = ("framing_up_modelled", "framing_down_modelled")


@dataclass(frozen=True, slots=True)
class Bytes:
    """Payload in both directions."""

    up: int
    down: int


class Ledger:
    """Traffic of many runs, one row for each (method, seed, user, purpose)."""

    def __init__(self) -> None:
        self._rows: list[tuple[object, ...]] = []

    def add(self, method: str, seed: int, traffic: Iterable[Traffic], in_flight: int) -> None:
        """Enter what a device process, with ``in_flight`` asks at most, counted in a run."""
        for entry in traffic:
            user = entry.user if entry.HasField("user") else None
            counts = (entry.bytes_up, entry.bytes_down, entry.asks)
            self._rows.append(
                (method, seed, user, entry.purpose, *counts, *_modelled(entry, in_flight))
            )

    def frame(self) -> pl.DataFrame:
        """The account, in an order that does not depend on who reported first."""
        rows = pl.DataFrame(self._rows, schema=SCHEMA, orient="row")
        sums = rows.group_by(_KEYS).agg(pl.col(_COUNTS).sum(), pl.col(_MODELLED).first())
        return sums.sort(_KEYS, nulls_last=True)

    def total(self, *purposes: str, method: str | None = None) -> Bytes:
        """Bytes of some purposes, of one method or of all."""
        of_method = pl.lit(value=True) if method is None else pl.col("method") == method
        chosen = self.frame().filter(pl.col("purpose").is_in(purposes) & of_method)
        return Bytes(int(chosen["bytes_up"].sum()), int(chosen["bytes_down"].sum()))


def _modelled(entry: Traffic, in_flight: int) -> tuple[float | None, float | None]:
    """Framing up and down of the asks of one user and purpose; a hello also opens a session."""
    if entry.purpose == BUNDLE:
        return None, None
    each = exchange(in_flight)
    total = (each + SESSION if entry.purpose == CONTROL else each) * entry.asks
    return total.up, total.down
