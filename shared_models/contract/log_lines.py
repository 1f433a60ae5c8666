"""How our processes tell what happens: a line for each thing worth knowing, on standard error.

As text for people or as JSON for machines, of the same content: when, how grave, who says it, what
happened, and facts about it. What may happen with every ask is told seldom, and then how often it
happened meanwhile.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from enum import StrEnum
from typing import Any, Final, TextIO

from typing_extensions import override

_PLAIN: Final = re.compile(r"[^\s\"'=\\\x00-\x1f]+")
_ABOUT: Final = "about"
_EVERY_S: Final = 10.0
Clock = Callable[[], float]


class LogFormat(StrEnum):
    """How a line looks."""

    TEXT = "text"
    JSON = "json"


class Seldom:
    """Says whether it is time to tell a kind of thing again.

    Args:
        every_s: seconds between two tellings of one kind.
        clock: monotonic seconds.
    """

    def __init__(self, every_s: float = _EVERY_S, clock: Clock = time.monotonic) -> None:
        self._every_s, self._clock = every_s, clock
        self._told: dict[Hashable, tuple[float, int]] = {}

    def due(self, kind: Hashable) -> int | None:
        """How often ``kind`` happened since it was told last, now included; None: do not tell."""
        now = self._clock()
        told_at, untold = self._told.get(kind, (-self._every_s + now, 0))
        if now - told_at < self._every_s:
            self._told[kind] = told_at, untold + 1
            return None
        self._told[kind] = now, 0
        return untold + 1


def note(log: logging.Logger, event: str, *, level: int = logging.INFO, **about: object) -> None:
    """Tell that ``event`` happened, with facts about it."""
    log.log(level, event, extra={_ABOUT: about})


def start_logging(form: LogFormat, stream: TextIO = sys.stderr) -> None:
    """Let this process write its log to ``stream``, from `logging.INFO` on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonLines() if form is LogFormat.JSON else _TextLines())
    handler.addFilter(_Bounded())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _Bounded(logging.Filter):
    """Lets what was noted pass, and of other warnings each kind once in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._seldom = Seldom()

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or hasattr(record, _ABOUT):
            return True
        times = self._seldom.due((record.name, record.msg))
        if times and times > 1:
            setattr(record, _ABOUT, {"times": times})
        return times is not None


class _Lines(logging.Formatter):
    """One line a record, whatever is in it."""

    def facts(self, record: logging.LogRecord) -> Mapping[str, Any]:
        """What is told about the event, and the trace of an error."""
        about: dict[str, Any] = dict(getattr(record, _ABOUT, {}))
        if record.exc_info:
            about["trace"] = self.formatException(record.exc_info)
        return about

    @override
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{seconds}.{int(record.msecs):03d}Z"


class _TextLines(_Lines):
    """``2026-01-31T12:00:00.000Z info listening address=127.0.0.1:50051``."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        level, event = record.levelname.lower(), " ".join(record.getMessage().splitlines())
        facts = [f"{name}={_word(value)}" for name, value in self.facts(record).items()]
        return " ".join([self.formatTime(record), level, event, *facts])


class _JsonLines(_Lines):
    """``{"at": "2026-01-31T12:00:00.000Z", "level": "info", "event": "listening", ...}``."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **self.facts(record),
        }
        return json.dumps(line, default=str)


def _word(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
