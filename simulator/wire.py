"""The account of a run from three sides: what devices counted, what the cloud did, and the kernel.

Devices and cloud each count payload; both must find the same, to the byte. The kernel counts what
TCP carried; what is more than payload is framing, which is also predicted from counts.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from protos.v1 import simulation_pb2 as plane
from shared_models.contract.errors import RunFailed
from shared_models.contract.traffic import BUNDLE
from simulator.framing import Crossings, predicted
from simulator.replay import Account

EQUAL: Final = "equal to the byte"
_DIFFER: Final = "the ledgers of devices and cloud differ"
_BYTES: Final = ("bytes_up", "bytes_down")
_KEYS: Final = ("user", "purpose")
_TOTALS: Final = {
    "user": pl.Int64,
    "purpose": pl.String,
    "bytes_up": pl.Int64,
    "bytes_down": pl.Int64,
}
CONNECTIONS: Final = {
    "method": pl.String,
    "seed": pl.Int64,
    "pid": pl.Int64,  # of the device process
    "local": pl.String,  # the device's end
    "peer": pl.String,  # the cloud's end
    "kernel_up": pl.Int64,  # what TCP carried from the device, read there
    "kernel_down": pl.Int64,
    "cloud_kernel_up": pl.Int64,  # the same, read in the cloud; null where it could not be
    "cloud_kernel_down": pl.Int64,
    "payload_up": pl.Int64,  # of the process; null where that is not this connection's alone
    "payload_down": pl.Int64,
    "framing_up": pl.Int64,  # kernel - payload
    "framing_down": pl.Int64,
    "predicted_up": pl.Float64,  # framing by `simulator.framing`
    "predicted_down": pl.Float64,
}


@dataclass(frozen=True, slots=True)
class CloudAccount:
    """What a cloud wrote down of a run.

    Attributes:
        exchanges: a row for each: ``user``, ``purpose``, ``ask``, ``bytes_up``, ``bytes_down``,
            ``queue_seconds``, ``compute_seconds``.
        kernel: bytes (received, sent) by connection, as (device's end, cloud's end).
    """

    exchanges: pl.DataFrame
    kernel: dict[tuple[str, str], tuple[int, int]]


def read_cloud(path: Path) -> CloudAccount | None:
    """The account in ``path``; None where the cloud left none, as one that was killed."""
    if not path.is_file():
        return None
    told = json.loads(pl.read_parquet_metadata(path)["connections"])
    kernel = {(each["peer"], each["local"]): (each["received"], each["sent"]) for each in told}
    return CloudAccount(pl.read_parquet(path), kernel)


def reconciliation(accounts: Sequence[Account], cloud: CloudAccount | None) -> str:
    """Whether devices and cloud counted the same payload for each user and purpose.

    Returns:
        `EQUAL`, why they cannot be compared, or where they differ.
    """
    if not accounts:
        return "the replay was cut short"
    if cloud is None:
        return "no ledger of the whole run: played under faults, or its cloud was killed"
    if broken := sum(account.done.streams.broken for account in accounts):
        return f"{broken} streams broke on the way"
    difference = _difference(accounts, cloud)
    return EQUAL if difference is None else f"{_DIFFER}: {difference}"


def require_reconciled(accounts: Sequence[Account], cloud: CloudAccount | None) -> None:
    """See to it that no byte is unaccounted for where nothing went wrong.

    Raises:
        RunFailed: devices and cloud counted differently: a defect in the accounting.
    """
    found = reconciliation(accounts, cloud)
    if found.startswith(_DIFFER):
        raise RunFailed(found)


def connection_rows(
    accounts: Sequence[Account], cloud: CloudAccount | None, in_flight: int
) -> Iterator[tuple[Any, ...]]:
    """A row of `CONNECTIONS`, from ``pid`` on, for each connection of each device process.

    Payload is counted by process; it is a connection's where there was only this one.
    """
    for account in accounts:
        alone = len(account.done.connections) == 1 and not account.done.streams.broken
        for each in account.done.connections:
            kernel = (each.bytes_up, each.bytes_down)
            theirs = cloud.kernel.get((each.local, each.peer)) if cloud else None
            framed = _framed(account.done, kernel, in_flight) if alone else (None,) * 6
            yield (account.pid, each.local, each.peer, *kernel, *(theirs or (None, None)), *framed)


def _framed(done: plane.RunDone, kernel: tuple[int, int], in_flight: int) -> tuple[float, ...]:
    """Payload, framing and predicted framing, each up and down."""
    up = sum(entry.bytes_up for entry in done.traffic)
    down = sum(entry.bytes_down for entry in done.traffic)
    expected = predicted(crossings(done, in_flight))
    return (up, down, kernel[0] - up, kernel[1] - down, expected.up, expected.down)


def crossings(done: plane.RunDone, in_flight: int) -> Crossings:
    """What a device process did on its connections to the cloud."""
    calls = sum(entry.asks for entry in done.traffic if entry.purpose == BUNDLE)
    asks = sum(entry.asks for entry in done.traffic if entry.purpose != BUNDLE)
    users = {entry.user for entry in done.traffic if entry.HasField("user")}
    connections = len(done.connections)
    return Crossings(
        connections=connections,
        calls=calls - connections,
        pieces=done.streams.pieces,
        sessions=done.streams.opened - calls,
        hang_ups=done.streams.reset,
        exchanges=asks,
        in_flight=min(in_flight, len(users)),  # a user has one ask under way
    )


def _difference(accounts: Sequence[Account], cloud: CloudAccount) -> str | None:
    """The first user and purpose of which the two sides say different things."""
    rows = [
        (
            entry.user if entry.HasField("user") else None,
            entry.purpose,
            entry.bytes_up,
            entry.bytes_down,
        )
        for account in accounts
        for entry in account.done.traffic
    ]
    ours = _totals(pl.DataFrame(rows, schema=_TOTALS, orient="row"))
    theirs = _totals(cloud.exchanges.select(*_TOTALS))
    both = ours.join(theirs, on=_KEYS, how="full", nulls_equal=True, coalesce=True, suffix="_cloud")
    unequal = pl.any_horizontal(
        pl.col(name).fill_null(0) != pl.col(f"{name}_cloud").fill_null(0) for name in _BYTES
    )
    wrong = both.filter(unequal).sort(_KEYS)
    return str(wrong.row(0, named=True)) if len(wrong) else None


def _totals(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by(_KEYS).agg(pl.col(_BYTES).sum())
