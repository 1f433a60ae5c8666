"""How training shows itself: a bar in a terminal, plain lines elsewhere."""

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Told(Protocol):
    """What an epoch gave, whatever the task."""

    @property
    def number(self) -> int:
        """From 1 on."""
        ...

    @property
    def told(self) -> str:
        """For people."""
        ...


class TrainingDisplay:
    """Watches a training; a context manager, so that the bar always ends."""

    def __init__(self, console: Console, label: str) -> None:
        self._console, self._label = console, label
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(
            *columns,
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(label, total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def on_step(self, stage: str, epoch: int, step: int, steps: int) -> None:
        """Move the bar."""
        title = f"{self._label} · {stage} · epoch {epoch}"
        self._bar.update(self._task, description=title, completed=step, total=steps)

    def on_epoch(self, stage: str, record: Told) -> None:
        """Print a line."""
        line = f"{self._label} · {stage} · epoch {record.number}: {record.told}"
        self._console.print(line, highlight=False, soft_wrap=True)
