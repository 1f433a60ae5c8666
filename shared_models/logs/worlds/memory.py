"""A world in which only long memory knows a user's taste (for ECRec).

Time has phases. At the beginning of each, a user's taste, one of T topics, stays with probability
1/2, and else is drawn anew from all. Then the user clicks 30 items, each of the taste's topic with
probability 1/2 and else of a uniform one, and 10 items of the phase's session, a topic that is
neither the taste nor that of the phase before. Then comes a request: what is taken is of the taste
or of the session, with probability 1/2 each; four others are of uniform topics.

The newest 10 items, which a device's window holds, show the session and nothing else. The taste is
in the 30 before, and what was known a phase ago is still true with probability 1/2 + 1/2T. With
T = 8, AUCs of single candidates are exactly:

- blind, the session known: 1/2 of what is taken is in it, 1/8 of the rest: 0.6875;
- best, the taste known too: all that is taken is in the two, 1/4 of the rest: 0.875;
- stale, where the taste of the phase before is believed: 1/2 + 1/2 x 0.5625 against 1/4: 0.7656.

They are exact since both topics are equally likely for what is taken, so that no order of the two
does better, since what remains is uniform, and since the session differs from both tastes. (Blind
and best cannot be beaten. Who knows a memory to be stale and trusts the session more gets 0.7793.)
Thirty clicks leave the taste in doubt in one phase of 6,000, which moves no figure by 0.0001.

All users live at the same time, and every phase is equally long for all. So with ten phases, or
multiples of that, ``user-tail`` and ``global-time`` cut the same, between phases. A phase is 41
events of behaviour: a device that refreshes every 42 to 82 events does so at every second request,
and has the stale memory at the others.
"""

# Shapes: U users, K phases, N clicks of a phase, R requests.

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from shared_models.contract.tensors import Int64Array
from shared_models.logs.source import Source
from shared_models.logs.worlds.topics import Requests, Topics, clicks, two_level_auc

_MINUTE: Final = 60.0
_LOYALTY: Final = 0.5
"""Chance that a taste stays, that a click is of it, and that what is taken is of it."""


class MemoryWorld(BaseModel):
    """What may differ between two such worlds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topics: Topics = Topics()
    users: PositiveInt = 400
    phases: PositiveInt = 20
    habit: PositiveInt = Field(30, description="Clicks by taste in a phase.")
    session: PositiveInt = Field(10, description="Clicks by session, just before the request.")
    seed: int = Field(0, ge=0)


@dataclass(frozen=True, slots=True)
class Lives:
    """What everybody did, and why.

    Attributes:
        taste: int64 (U, K + 1) topics; that of phase k stands at k + 1, at 0 the one before all.
        session: int64 (U, K) topics.
        clicked: int64 (U, K, N) items.
        requests: one for each phase of each user, one user after the other.
    """

    taste: Int64Array
    session: Int64Array
    clicked: Int64Array
    requests: Requests


def read_memory(world: MemoryWorld) -> Source:
    """Live every user's life; clicks are a minute apart, users interleave."""
    lives = live(world)
    user_U, phase_K = np.arange(world.users), np.arange(world.phases)
    click_N = np.arange(world.habit + world.session)
    length = len(click_N) + 1
    start_UK = _MINUTE * (length * phase_K + user_U[:, None] / world.users)
    mere = clicks(user_U[:, None, None], lives.clicked, start_UK[..., None] + _MINUTE * click_N)
    asked_UK = start_UK + _MINUTE * len(click_N)
    shown = lives.requests.events(np.repeat(user_U, world.phases), asked_UK.ravel())
    ids = np.arange(1, world.topics.items + 1)
    features = pl.DataFrame({"raw": ids.astype(str), "topic": world.topics.of(ids)})
    return Source("synthetic-memory", pl.concat([mere, shown]), features, truth=_truth(world))


def live(world: MemoryWorld) -> Lives:
    """Everybody's life, phase by phase."""
    rng, topics = np.random.default_rng(world.seed), world.topics
    taste = rng.integers(0, topics.count, (world.users, world.phases + 1))
    for phase in range(world.phases):
        taste[:, phase + 1] = topics.around(taste[:, phase], _LOYALTY, rng)
    session = _neither(taste[:, 1:], taste[:, :-1], topics.count, rng)
    habit = np.repeat(taste[:, 1:, None], world.habit, axis=2)
    by_session = np.repeat(session[..., None], world.session, axis=2)
    clicked = np.concatenate([topics.around(habit, _LOYALTY, rng), by_session], axis=2)
    by_taste = rng.random(session.shape) < _LOYALTY
    taken = np.where(by_taste, taste[:, 1:], session)
    return Lives(taste, session, topics.draw(clicked, rng), topics.requests(taken.ravel(), rng))


def _neither(
    one: Int64Array, other: Int64Array, count: int, rng: np.random.Generator
) -> Int64Array:
    """Uniform topics that differ from both."""
    topic = np.arange(count)
    free = (topic != one[..., None]) & (topic != other[..., None])
    drawn: Int64Array = np.argmax(rng.random(free.shape) * free, axis=-1)
    return drawn


def _truth(world: MemoryWorld) -> dict[str, float]:
    """AUCs with the taste unknown, known, and known as it was a phase ago."""
    one, two = 1 / world.topics.count, 2 / world.topics.count
    unchanged = _LOYALTY + (1 - _LOYALTY) * one
    return {
        "best_auc": two_level_auc(1, two),
        "stale_auc": two_level_auc(1 - _LOYALTY + _LOYALTY * unchanged, two),
        "blind_auc": two_level_auc(1 - _LOYALTY, one),
    }
