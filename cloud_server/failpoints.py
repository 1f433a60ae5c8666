"""Places at which a drill lets the cloud die, each with a name; inert unless one is armed.

    CONCERTO_FAILPOINTS=journal.before-commit:3 concerto-cloud serve ...

kills the process with SIGKILL when it comes to that place for the third time, as a power cut or
the kernel's memory killer would: nothing is flushed, no handler runs.
"""

import os
import signal
import threading
from collections.abc import Mapping
from typing import Final

from shared_models.contract.errors import BadSetting, UnknownName

VARIABLE: Final = "CONCERTO_FAILPOINTS"
SERVING: Final[Mapping[str, str]] = {
    "start.before-journal": "the port is bound, the journal is not open yet",
    "start.before-models": "the journal is open, no model is loaded yet",
    "start.ready": "all is loaded, nobody was told yet",
    "journal.before-write": "events came, none is written",
    "journal.before-commit": "events are written, but not committed",
    "journal.after-commit": "events are committed, nobody was told yet",
    "upload.before-acknowledge": "the answer to an upload is about to be written",
    "answer.sent": "an answer was handed to the transport",
    "memory.before-write": "vectors are about to be written",
    "memory.before-commit": "vectors are written, but not committed",
    "memory.after-commit": "vectors are committed, nobody was told yet",
    "memory.seeding": "the memories of some users are made, those of others are not",
    "contribution.before-write": "a contribution was judged good, and is not written",
    "contribution.written": "it is written, but not committed",
    "contribution.after-commit": "it is committed, nobody was told yet",
    "contribution.version": "a group's next version is written, what it was made of is still there",
    "release.noticed": "another release was found, and not looked into yet",
    "release.checked": "it was found good, and is not announced yet",
    "release.announced": "some devices were told of it",
    "bundle.chunk": "a part of a bundle was sent",
    "stop.begun": "asked to stop, sessions are still open",
    "stop.answered": "all is answered, files are still open",
}
"""In a cloud that serves."""
RETRAINING: Final[Mapping[str, str]] = {
    "retrain.grown": "the log has grown by what was uploaded, training has not begun",
    "retrain.epoch": "an epoch is over, and not on disk yet",
    "retrain.trained": "training is over, there is no bundle yet",
    "retrain.stored": "the bundle is in its folder, and not released",
}
"""In a training."""
NAMES: Final = {**SERVING, **RETRAINING}


class _Armed:
    """One place, and how often the process may still come there and live."""

    def __init__(self, name: str, nth: int) -> None:
        self.name, self._left, self._turn = name, nth, threading.Lock()

    def come(self, name: str) -> None:
        """Die, if this is the place and the time."""
        if name != self.name:
            return
        with self._turn:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


_armed: _Armed | None = None


def arm(text: str) -> None:
    """Choose where this process dies; an empty text: nowhere.

    Args:
        text: ``name`` or ``name:nth``, as in `VARIABLE`.

    Raises:
        UnknownName: there is no such place.
        BadSetting: ``nth`` is no number from 1 on.
    """
    global _armed  # noqa: PLW0603 - a place in the code is reached from everywhere in it
    name, colon, nth = text.partition(":")
    if name and name not in NAMES:
        raise UnknownName("failpoint", name, NAMES)
    if colon and not (nth.isdecimal() and int(nth)):
        raise BadSetting(VARIABLE, f"write NAME or NAME:NTH with NTH from 1 on, not {text!r}")
    _armed = _Armed(name, int(nth or 1)) if name else None


def failpoint(name: str) -> None:
    """A place at which the process may die."""
    if _armed is not None:
        _armed.come(name)
