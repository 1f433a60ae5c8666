"""How a run shows itself: a live table in a terminal, plain lines every few seconds elsewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a replay is, and what it has measured so far.

    Attributes:
        title: the run, as in ``duet (sasrec, seed 0)``.
        users: virtual devices.
        done: moments ranked.
        moments: moments of the whole run.
        auc: mean over the moments so far.
        hit_rate: HR@10 over the moments so far.
        bytes_up: payload so far, devices to cloud.
        bytes_down: payload so far, cloud to devices.
        seconds: since the run began.
    """

    title: str
    users: int
    done: int
    moments: int
    auc: float
    hit_rate: float
    bytes_up: int
    bytes_down: int
    seconds: float

    @property
    def is_over(self) -> bool:
        """Whether every moment was ranked."""
        return self.done == self.moments

    @property
    def cells(self) -> tuple[str, ...]:
        """What the table shows, in the order of `COLUMNS`."""
        rate = self.done / self.seconds if self.seconds else 0.0
        return (
            self.title,
            f"{self.users:,}",
            f"{self.done:,} of {self.moments:,}",
            f"{rate:,.0f}",
            f"{self.auc:.4f}",
            f"{self.hit_rate:.4f}",
            size(self.bytes_up),
            size(self.bytes_down),
        )


COLUMNS: Final = ("run", "users", "events", "events/s", "AUC", "HR@10", "up", "down")


class Display:
    """Shows a run to whoever watches; a context manager, so that a live table always ends."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._standings: dict[str, Standing] = {}
        self._shown_at = clock()
        self._live = Live(console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """Tell something once."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def show(self, standing: Standing) -> None:
        """Take in how far a replay is, and show it if it is time to."""
        self._standings[standing.title] = standing
        if self._live:
            self._live.update(self._table())
        elif standing.is_over or self._clock() - self._shown_at >= _EVERY_S:
            self._shown_at = self._clock()
            title, *cells = standing.cells
            pairs = zip(COLUMNS[1:], cells, strict=True)
            self.say(f"{title}: " + ", ".join(f"{name} {cell}" for name, cell in pairs))

    def _table(self) -> Table:
        table = Table(box=None)
        for column in COLUMNS:
            table.add_column(column, justify="left" if column == COLUMNS[0] else "right")
        for standing in self._standings.values():
            table.add_row(*standing.cells)
        return table


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"
