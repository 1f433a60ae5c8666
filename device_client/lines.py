"""A device process by itself: whoever writes JSON lines to it is the app."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from device_client.host import Host
from shared_models.contract.errors import InputError
from shared_models.contract.events import Event
from shared_models.contract.ranking import Ranking

_SHOWN: Final = 80
_LARGEST: Final = 2**32 - 1
"""Of a user or an item, as the wire has them."""
User = Annotated[int, Field(ge=0, le=_LARGEST)]
Item = Annotated[int, Field(ge=1, le=_LARGEST)]


class Line(BaseModel):
    """One line of input: ``{"user": 1, "rank": [3, 7]}`` or ``{"user": 1, "observe": 7}``.

    ``at``, virtual time in seconds, may stand in both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: User
    rank: tuple[Item, ...] = ()
    observe: Item | None = None
    at: FiniteFloat = 0.0

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if bool(self.rank) == (self.observe is not None):
            raise ValueError("give candidates to rank, or an item to observe")
        return self


def read_lines(lines: Iterable[str]) -> Iterator[Line]:
    """Read lines of input; empty ones are passed over.

    Raises:
        InputError: a line is not what a device reads.
    """
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            yield Line.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "whole line"
            raise InputError(
                f"line {number}, {place}: {first['msg']}, got {text.strip()[:_SHOWN]!r}"
            ) from error


async def answer(host: Host, line: Line) -> dict[str, Any]:
    """Do what ``line`` says, and say what came of it."""
    device = host.device(line.user)
    if line.observe is None:
        ranking = await device.rank(line.rank, line.at)
        return {"user": line.user, **_told(ranking)}
    await device.observe(Event(line.observe, line.at))
    device.learn()
    await device.contribute(line.at)
    return {"user": line.user, "events_seen": device.events_seen}


def _told(ranking: Ranking) -> dict[str, Any]:
    """A ranking with its provenance; items best first, ``scores`` beside them."""
    scores = dict(zip(ranking.candidates.tolist(), ranking.scores.tolist(), strict=True))
    items = ranking.items.tolist()
    return {
        "items": items,
        "scores": [scores[item] for item in items],
        "source": ranking.source,
        "overlay_age": ranking.overlay_age,
        "decision": ranking.decision,
        "bundle": ranking.bundle_id,
    }
