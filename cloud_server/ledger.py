"""The cloud's account: what each exchange cost, by user and purpose.

Sessions handle bytes; whoever parses and writes a message here counts it, exactly once. Memory is
bounded: columns of plain numbers, written out each `_GROUP` exchanges as a part, which the end
joins into one Parquet file. A cloud that is killed leaves none.
"""

import json
import math
import shutil
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, Protocol

import numpy as np
import polars as pl

from cloud_server.batcher import Stay
from shared_models.contract.connections import Connection
from shared_models.contract.errors import BadSetting, PathMissing
from shared_models.contract.traffic import PURPOSES

_GROUP: Final = 1 << 15
_NOBODY: Final = -1
_CODES: Final = {purpose: code for code, purpose in enumerate(PURPOSES)}
_COLUMNS: Final = {
    "user": "q",
    "purpose": "B",
    "ask": "Q",
    "bytes_up": "I",
    "bytes_down": "I",
    "queue_seconds": "f",
    "compute_seconds": "f",
}


class Ledger(Protocol):
    """Where an exchange is entered."""

    def enter(
        self, user: int | None, purpose: str, ask: int, size: tuple[int, int], stay: Stay | None
    ) -> None:
        """Count a message that came up and one that went down.

        Args:
            user: who asked; None for what serves a whole process.
            purpose: one of `PURPOSES`.
            ask: its number in the device's life; 0 for hellos and bundles.
            size: payload bytes up and down.
            stay: where it spent its time; None where no ranking can have waited for it.
        """
        ...

    def connected(self, connections: Sequence[Connection]) -> None:
        """Keep what the kernel said of the connections, before they are closed."""
        ...

    def contributed(self, counts: Mapping[str, int]) -> None:
        """Keep how many contributions came, by what became of them."""
        ...


class NoLedger:
    """Counts nothing."""

    def enter(
        self, user: int | None, purpose: str, ask: int, size: tuple[int, int], stay: Stay | None
    ) -> None:
        """Forget it."""

    def connected(self, connections: Sequence[Connection]) -> None:
        """Forget them."""

    def contributed(self, counts: Mapping[str, int]) -> None:
        """Forget them."""


class ExchangeLedger:
    """Keeps a row for each exchange.

    Args:
        path: the Parquet file to be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts = path.with_name(f".{path.name}.parts")
        self._columns = _blank()
        self._connections: Sequence[Connection] = ()
        self._contributions: Mapping[str, int] = {}

    def enter(
        self, user: int | None, purpose: str, ask: int, size: tuple[int, int], stay: Stay | None
    ) -> None:
        """Count a message that came up and one that went down."""
        columns = self._columns
        columns["user"].append(_NOBODY if user is None else user)
        columns["purpose"].append(_CODES[purpose])
        columns["ask"].append(ask)
        columns["bytes_up"].append(size[0])
        columns["bytes_down"].append(size[1])
        columns["queue_seconds"].append(stay.queue_seconds if stay else math.nan)
        columns["compute_seconds"].append(stay.compute_seconds if stay else math.nan)
        if len(columns["user"]) == _GROUP:
            self._flush()

    def connected(self, connections: Sequence[Connection]) -> None:
        """Keep what the kernel said of the connections, before they are closed."""
        self._connections = connections

    def contributed(self, counts: Mapping[str, int]) -> None:
        """Keep how many contributions came, by what became of them."""
        self._contributions = counts

    def close(self) -> None:
        """Write the file; connections and contributions are JSON in its metadata."""
        self._flush()
        draft = self._path.with_name(f".{self._path.name}.draft")
        kernel = json.dumps([asdict(connection) for connection in self._connections])
        parts = sorted(self._parts.iterdir())
        pl.scan_parquet(parts).sink_parquet(
            draft,
            row_group_size=_GROUP,
            metadata={"connections": kernel, "contributions": json.dumps(self._contributions)},
        )
        draft.replace(self._path)
        self.discard()

    def discard(self) -> None:
        """Leave nothing of what was not finished."""
        shutil.rmtree(self._parts, ignore_errors=True)

    def _flush(self) -> None:
        self._parts.mkdir(exist_ok=True)
        number = len(list(self._parts.iterdir()))
        _frame(self._columns).write_parquet(self._parts / f"{number:06d}.parquet")
        self._columns = _blank()


@contextmanager
def recording(path: Path | None) -> Iterator[Ledger]:
    """A ledger that is written to ``path`` at the end; without one, nothing is counted.

    Raises:
        PathMissing: there is no folder for the file.
        BadSetting: the file cannot be written.
    """
    if path is None:
        yield NoLedger()
        return
    _require_writable(path)
    ledger = ExchangeLedger(path)
    ledger.discard()  # what a killed cloud left
    failed = False
    try:
        yield ledger
    except Exception:
        failed = True
        raise
    finally:
        if failed:
            ledger.discard()
        else:
            ledger.close()


def _require_writable(path: Path) -> None:
    """See now whether the file can be, and not after all that it should tell of."""
    if not path.parent.is_dir():
        raise PathMissing(path.parent, "folder for the ledger")
    if path.is_dir():
        raise BadSetting("ledger", f"{path} is a folder: name a file in it")
    try:
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise BadSetting("ledger", f"{path} cannot be written: {error.strerror}") from error


def _blank() -> dict[str, "array[Any]"]:
    return {name: array(code) for name, code in _COLUMNS.items()}


def _frame(columns: dict[str, "array[Any]"]) -> pl.DataFrame:
    """Columns of numbers as a reader wants them: null for what there is none of."""
    raw = pl.DataFrame({name: np.frombuffer(each, each.typecode) for name, each in columns.items()})
    return raw.with_columns(
        pl.when(pl.col("user") != _NOBODY).then("user"),
        pl.col("purpose").replace_strict(dict(enumerate(PURPOSES)), return_dtype=pl.String),
        # Asks stay unsigned: devices number them, and who asks may have written any number.
        pl.col("bytes_up", "bytes_down").cast(pl.Int64),
        pl.col("queue_seconds", "compute_seconds").fill_nan(None),
    )
