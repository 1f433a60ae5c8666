"""A world in which only neighbours know what a user wants now (for CIGAR).

There are communities, each with a trend, one of T topics, that is drawn anew in each period: no
table of users or communities can remember it. A period goes like this. Everybody clicks one item of
the community's own and then 20 items: *neighbours* of the trend's topic with probability 1/2 and
else of a uniform one, *centres* always of a uniform one. Then, step after step, one centre of each
community is asked: what is taken is of the trend's topic with probability 0.8 and else of a uniform
one; four others are of uniform topics. Neighbours are never asked.

A centre is asked once in a period, so nothing in its own life tells the present trend; the clicks
of ten neighbours show it beyond doubt. With T = 8, AUCs of single candidates are exactly:

- best, the trend known: 0.8 + 0.2/8 of what is taken is of it, 1/8 of the rest: 0.85;
- blind, or stale, the trend of an earlier period believed: 1/8 of both: 0.5.

Items of the community's own tell who is alike, by the items of training: a centre has one and
shares it with the ten neighbours, who have all of their community and take turns among them. They
are never shown at a request.

Every period is alike for all users, so with ten periods, or multiples of that, ``user-tail`` and
``global-time`` cut the same, between periods. In a replay, what others clicked is known from the
next round on, so a round must not be longer than a period: ``replay.round_events`` is at most
communities x steps.
"""

# Shapes: P periods, U users, G communities, M members of each, S steps, N clicks of a period,
# R requests.

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from shared_models.contract.tensors import Int64Array
from shared_models.logs.source import Source
from shared_models.logs.worlds.topics import Requests, Topics, clicks, two_level_auc

_MINUTE: Final = 60.0
_CLICKED: Final = 0.5
"""Share of neighbours' clicks that follow the trend; others are uniform."""
_TAKEN: Final = 0.8
"""The same of what centres take at requests."""


class TrendWorld(BaseModel):
    """What may differ between two such worlds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topics: Topics = Topics()
    communities: PositiveInt = 30
    neighbours: PositiveInt = Field(10, description="Members of a community who only click.")
    steps: PositiveInt = Field(4, description="Centres of a community; each has its step.")
    periods: PositiveInt = 40
    clicks: PositiveInt = Field(20, description="Of each user in each period, but for the first.")
    seed: int = Field(0, ge=0)

    @property
    def members(self) -> int:
        """M; neighbours come before centres."""
        return self.neighbours + self.steps

    @property
    def users(self) -> int:
        """U, one community after the other."""
        return self.communities * self.members


@dataclass(frozen=True, slots=True)
class Lives:
    """What everybody did, and why.

    Attributes:
        trend: int64 (P, G) topics.
        clicked: int64 (P, G, M, 1 + N) items, the community's own first.
        requests: one for each (P, G, S), in this order.
    """

    trend: Int64Array
    clicked: Int64Array
    requests: Requests


def read_trend(world: TrendWorld) -> Source:
    """Live every period; clicks and steps are a minute apart, users interleave."""
    lives = live(world)
    user_GM = np.arange(world.users).reshape(world.communities, world.members)
    period_P11 = np.arange(world.periods)[:, None, None]
    click_N, step_S = np.arange(1 + world.clicks), np.arange(world.steps)
    length = len(click_N) + len(step_S)
    start_PGM = _MINUTE * (length * period_P11 + user_GM / world.users)
    mere = clicks(user_GM[..., None], lives.clicked, start_PGM[..., None] + _MINUTE * click_N)
    asked_PGS = start_PGM[..., world.neighbours :] + _MINUTE * (len(click_N) + step_S)
    centre_PGS = np.broadcast_to(user_GM[:, world.neighbours :], asked_PGS.shape)
    shown = lives.requests.events(centre_PGS.ravel(), asked_PGS.ravel())
    return Source(
        "synthetic-trend", pl.concat([mere, shown]), _items(world), _users(world), _truth(world)
    )


def live(world: TrendWorld) -> Lives:
    """Every period of every community."""
    rng, topics = np.random.default_rng(world.seed), world.topics
    trend = rng.integers(0, topics.count, (world.periods, world.communities))
    shape = (*trend.shape, world.members, world.clicks)
    topic = rng.integers(0, topics.count, shape)
    followed = np.broadcast_to(trend[..., None, None], shape)[:, :, : world.neighbours]
    topic[:, :, : world.neighbours] = topics.around(followed, _CLICKED, rng)
    clicked = np.concatenate([_own(world)[..., None], topics.draw(topic, rng)], axis=-1)
    taken = topics.around(np.repeat(trend[..., None], world.steps, axis=-1), _TAKEN, rng)
    return Lives(trend, clicked, topics.requests(taken.ravel(), rng))


def _own(world: TrendWorld) -> Int64Array:
    """The item of the community's own that each member takes in each period: (P, G, M)."""
    period, community, member = np.indices((world.periods, world.communities, world.members))
    centre = member - world.neighbours
    which = np.where(centre < 0, (period + member) % world.steps, centre)
    own: Int64Array = 1 + world.topics.items + community * world.steps + which
    return own


def _items(world: TrendWorld) -> pl.DataFrame:
    """A topic for each item; that of a community's own items is one more."""
    ids = np.arange(1, world.topics.items + world.communities * world.steps + 1)
    topic = np.minimum(world.topics.of(ids), world.topics.count)
    return pl.DataFrame({"raw": ids.astype(str), "topic": topic})


def _users(world: TrendWorld) -> pl.DataFrame:
    ids = np.arange(world.users)
    community, is_centre = ids // world.members, ids % world.members >= world.neighbours
    return pl.DataFrame({"raw": ids.astype(str), "community": community, "centre": is_centre})


def _truth(world: TrendWorld) -> dict[str, float]:
    """AUCs with the trend known, and unknown or outdated."""
    uniform = 1 / world.topics.count
    blind = two_level_auc(uniform, uniform)
    return {
        "best_auc": two_level_auc(_TAKEN + (1 - _TAKEN) * uniform, uniform),
        "stale_auc": blind,
        "blind_auc": blind,
    }
