"""What a device was promised: lines of a history that is held against what the cloud really keeps.

A device writes down what it sends before it does, and what is acknowledged as soon as it is. So an
entry without its acknowledgement may have arrived or not, and an acknowledged one must be there.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from shared_models.contract.errors import BadLog, PathMissing

SUFFIX: Final = ".jsonl"
_DIGEST_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class EventsSent:
    """Events of ``user`` went up, numbered from ``first`` on."""

    user: int
    first: int
    items: list[int]
    at: list[float]


@dataclass(frozen=True, slots=True)
class EventsStored:
    """The cloud said that it holds the first ``stored`` events of ``user``."""

    user: int
    stored: int


@dataclass(frozen=True, slots=True)
class RefreshSent:
    """A refresh went up, with which a cloud that remembers may write a vector."""

    user: int
    bundle: str


@dataclass(frozen=True, slots=True)
class VectorKept:
    """The cloud said which vector of ``user`` it keeps since a refresh."""

    user: int
    bundle: str
    version: int
    digest: int


@dataclass(frozen=True, slots=True)
class ContributionSent:
    """Contribution ``sequence`` of ``user`` went up."""

    user: int
    bundle: str
    sequence: int


@dataclass(frozen=True, slots=True)
class ContributionsStored:
    """The cloud said that it has accepted the first ``stored`` contributions of ``user``."""

    user: int
    bundle: str
    stored: int


Entry = (
    EventsSent | EventsStored | RefreshSent | VectorKept | ContributionSent | ContributionsStored
)
_KINDS: Final[dict[str, type[Entry]]] = {
    "events-sent": EventsSent,
    "events-stored": EventsStored,
    "refresh-sent": RefreshSent,
    "vector-kept": VectorKept,
    "contribution-sent": ContributionSent,
    "contributions-stored": ContributionsStored,
}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}


def digest(data: bytes) -> int:
    """Names a vector of float32 little-endian numbers: the first eight bytes of its SHA-256."""
    return int.from_bytes(hashlib.sha256(data).digest()[:_DIGEST_BYTES], "big")


def line(entry: Entry) -> str:
    """``entry`` as a line."""
    return json.dumps({"what": _NAMES[type(entry)], **asdict(entry)}) + "\n"


def read_history(path: Path) -> Iterator[Entry]:
    """What one device process wrote down, in its order; a line that a kill cut off is none.

    Raises:
        PathMissing: there is no such file.
        BadLog: a line is not one of ours.
    """
    if not path.is_file():
        raise PathMissing(path, "history")
    *whole, _ = path.read_text().split("\n")
    for number, text in enumerate(whole, start=1):
        try:
            fields: dict[str, Any] = json.loads(text)
            yield _KINDS[fields.pop("what")](**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadLog(f"{path}: line {number} is no entry of a history") from error
