"""A world of sessions in which intents drift (for MCRec).

There are T topics. A user lives through sessions of a fixed length, an hour and more apart; events
inside are a minute apart. A session begins with an intent: the user's home topic with probability
1/2, else a uniform one. Before each further event the intent changes with probability ``drift`` to
a uniform topic. What is taken is a uniform item of the intent's topic with probability
``1 - noise``, and else of a uniform topic.

So the list that a session begins with is right for about half of the sessions, and only until the
intent changes; the first event after a change shows the new one, but for the noise; and who can
tell the topics apart knows all there is to know. With the intent known, the AUC against items that
the user never touches is close to ``.5 + (1 - noise)(1 - 1/T) / 2`` (``truth["best_auc"]``), and
with the first intent of each session, that of a list never refreshed, it is ``kept_auc``.
"""

# Shapes: U users, S sessions, N events of each.

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from shared_models.contract.tensors import Int64Array
from shared_models.logs.source import Source
from shared_models.logs.worlds.topics import Topics, two_level_auc

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_HOME: Final = 0.5
"""Sessions that begin at home, at least."""


class SessionWorld(BaseModel):
    """What may differ between two such worlds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topics: Topics = Topics(count=40, size=50)
    users: PositiveInt = 300
    sessions: PositiveInt = 10
    events: PositiveInt = Field(20, description="Of a session.")
    drift: float = Field(0.1, ge=0, le=1, description="Chance of a change before an event.")
    noise: float = Field(0.15, ge=0, le=1, description="Share of items of uniform topics.")
    seed: int = Field(0, ge=0)


def read_sessions(world: SessionWorld) -> Source:
    """Live every session; users interleave."""
    rng, topics = np.random.default_rng(world.seed), world.topics
    intent = intents(world, rng)
    item = topics.draw(topics.around(intent, 1 - world.noise, rng), rng)
    user, session, number = np.indices(item.shape)
    length_s = _HOUR + _MINUTE * world.events
    at = session * length_s + _MINUTE * (number + user / world.users)
    events = pl.DataFrame({"user": user.ravel(), "item": item.ravel(), "at": at.ravel()})
    ids = np.arange(1, topics.items + 1)
    features = pl.DataFrame({"raw": ids.astype(str), "topic": topics.of(ids)})
    return Source("synthetic-sessions", events, features, truth=_truth(world, intent))


def intents(world: SessionWorld, rng: np.random.Generator) -> Int64Array:
    """The topic that each event is about: int64 (U, S, N)."""
    shape, count = (world.users, world.sessions, world.events), world.topics.count
    home_U11 = rng.integers(0, count, (world.users, 1, 1))
    drawn = rng.integers(0, count, shape)
    first_US1 = np.where(rng.random(shape[:2])[..., None] < _HOME, home_U11, drawn[..., :1])
    drawn[..., :1] = first_US1
    changes = rng.random(shape) < world.drift
    changes[..., 0] = True
    since = np.maximum.accumulate(np.where(changes, np.arange(world.events), 0), axis=-1)
    return np.take_along_axis(drawn, since, axis=-1)


def _truth(world: SessionWorld, intent: Int64Array) -> dict[str, float]:
    uniform = 1 / world.topics.count
    kept: NDArray[np.float64] = intent == intent[..., :1]
    taken = 1 - world.noise + world.noise * uniform
    still = float(kept.mean())
    return {
        "best_auc": two_level_auc(taken, uniform),
        "kept_auc": two_level_auc(still * taken + (1 - still) * uniform, uniform),
    }
