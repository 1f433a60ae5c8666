"""How a run shows itself: a live table in a terminal, plain lines every few seconds elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from simulator.meter import Standing

_EVERY_S: Final = 5.0


COLUMNS: Final = ("run", "users", "events", "events/s", "HR@10", "NDCG@10", "up", "down")


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
            title, *rest = cells(standing)
            pairs = zip(COLUMNS[1:], rest, strict=True)
            self.say(f"{title}: " + ", ".join(f"{name} {cell}" for name, cell in pairs))

    def _table(self) -> Table:
        table = Table(box=None)
        for column in COLUMNS:
            table.add_column(column, justify="left" if column == COLUMNS[0] else "right")
        for standing in self._standings.values():
            table.add_row(*cells(standing))
        return table


def cells(standing: Standing) -> tuple[str, ...]:
    """What is shown of a standing, in the order of `COLUMNS`."""
    rate = standing.done / standing.seconds if standing.seconds else 0.0
    return (
        standing.title,
        f"{standing.users:,}",
        f"{standing.done:,} of {standing.moments:,}",
        f"{rate:,.0f}",
        f"{standing.hit_rate:.4f}",
        f"{standing.ndcg:.4f}",
        size(standing.bytes_up),
        size(standing.bytes_down),
    )


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"
