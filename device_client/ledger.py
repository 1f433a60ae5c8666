"""The account of payload bytes of a device process: who, why, in which direction."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Purpose(StrEnum):
    """What bytes are spent on. Bundle and control stand apart from the price of a ranking."""

    BUNDLE = "bundle"
    REFRESH = "refresh"
    RANK = "rank"
    UPLOAD = "upload"
    CONTROL = "control"


APART = (Purpose.BUNDLE, Purpose.CONTROL)


@dataclass(slots=True)
class Count:
    """Bytes from the device (up) and to it (down), and the asks that they belong to."""

    up: int = 0
    down: int = 0
    asks: int = 0


class Ledger:
    """Counts messages as they are serialised; user None is the process itself."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int | None, Purpose], Count] = {}

    def sent(self, user: int | None, purpose: Purpose, size: int) -> None:
        """An ask of ``size`` bytes left."""
        count = self._of(user, purpose)
        count.up += size
        count.asks += 1

    def received(self, user: int | None, purpose: Purpose, size: int) -> None:
        """An answer of ``size`` bytes came."""
        self._of(user, purpose).down += size

    def __iter__(self) -> Iterator[tuple[int | None, Purpose, Count]]:
        for (user, purpose), count in self._counts.items():
            yield user, purpose, count

    def payload(self) -> Count:
        """The sum over users and purposes, bundle and control left out."""
        counts = [count for _, purpose, count in self if purpose not in APART]
        return Count(*(sum(getattr(c, name) for c in counts) for name in ("up", "down", "asks")))

    def _of(self, user: int | None, purpose: Purpose) -> Count:
        return self._counts.setdefault((user, purpose), Count())
