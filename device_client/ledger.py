"""The account of every payload byte, counted where messages are serialised."""

from collections.abc import Iterator
from dataclasses import dataclass

from shared_models.contract.traffic import PAYLOAD, PURPOSES


@dataclass(slots=True)
class Traffic:
    """Payload bytes in both directions, and the asks that they were for."""

    bytes_up: int = 0
    bytes_down: int = 0
    asks: int = 0

    def add(self, other: "Traffic") -> None:
        """Count ``other`` in."""
        self.bytes_up += other.bytes_up
        self.bytes_down += other.bytes_down
        self.asks += other.asks


@dataclass(slots=True)
class Streams:
    """What happened to the streams of a process; the framing of its connection hangs on it.

    Attributes:
        opened: sessions, and calls that bring bundles.
        reset: sessions that were hung up.
        broken: streams that ended while something was expected of them.
        pieces: messages of calls that bring bundles.
    """

    opened: int = 0
    reset: int = 0
    broken: int = 0
    pieces: int = 0


class DeviceLedger:
    """Traffic by (user, purpose); the user is None for what serves the whole process.

    Attributes:
        by_purpose: traffic of all users so far.
        streams: of all users so far.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[int | None, str], Traffic] = {}
        self.by_purpose = {purpose: Traffic() for purpose in PURPOSES}
        self.streams = Streams()

    @property
    def payload(self) -> Traffic:
        """Traffic of all users so far, without what is reported apart."""
        payload = Traffic()
        for purpose in PAYLOAD:
            payload.add(self.by_purpose[purpose])
        return payload

    # Both are on the way of every message, and so do without a `Traffic` of their own.

    def sent(self, user: int | None, purpose: str, size: int) -> None:
        """Count an ask of ``size`` bytes."""
        row = self._row(user, purpose)
        row.bytes_up += size
        row.asks += 1
        every = self.by_purpose[purpose]
        every.bytes_up += size
        every.asks += 1

    def received(self, user: int | None, purpose: str, size: int) -> None:
        """Count ``size`` bytes that came down."""
        self._row(user, purpose).bytes_down += size
        self.by_purpose[purpose].bytes_down += size

    def rows(self) -> Iterator[tuple[int | None, str, Traffic]]:
        """Everything that was counted, as (user, purpose, traffic)."""
        for (user, purpose), traffic in self._rows.items():
            yield user, purpose, traffic

    def merge(self, other: "DeviceLedger") -> None:
        """Count in what another ledger holds."""
        for user, purpose, traffic in other.rows():
            self._row(user, purpose).add(traffic)
            self.by_purpose[purpose].add(traffic)

    def _row(self, user: int | None, purpose: str) -> Traffic:
        row = self._rows.get((user, purpose))
        if row is None:
            row = self._rows[user, purpose] = Traffic()
        return row
