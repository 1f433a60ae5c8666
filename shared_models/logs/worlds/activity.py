"""A world in which few users are most of the log, and the many want the opposite (for PINRec).

There are three groups, as many users in each. A user of the *tail* is asked 10 times or 15 times, a
user of the *head* 100 times: 8, 12 and 80 % of all requests. Before each request its user clicks 10
uniform items, which fill a device's window and say nothing of anybody. A request shows five
different items, uniform too. Every item has a worth, as a uniform one on (-1, 1); it is taken with
probability ``sigmoid(4 worth)`` in the head and ``sigmoid(-4 worth)`` in the tail, independently of
what else is shown.

How active a user is tells the group: groups of users by activity, three or more of them, are the
groups of this world. Nothing else tells it; neither items nor users have features.

Worths are evenly spaced, so that AUCs of single candidates are sums over pairs of items:

- best, the group known: 0.9085 for each group and for all of them;
- blind, the group unknown: the best order for all is the head's, by worth. It is the best one for
  the head, and the worst one for the tail: 0.9085 and 0.0915.

``truth["blind_auc"]`` is that of worth over all users; ``blind_tail_auc`` is the tail's alone.
"""

# Shapes: G groups, M members of each, R requests, C candidates of each, N clicks, V items.

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from shared_models.contract.tensors import Int64Array
from shared_models.logs.source import Source
from shared_models.logs.worlds.topics import Requests, clicks

_MINUTE: Final = 60.0
_SIGNS: Final = (-1, -1, 1)
"""Whether a group wants what is of worth: two groups of the tail, then the head."""
_STEEPNESS: Final = 4.0


class ActivityWorld(BaseModel):
    """What may differ between two such worlds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: int = Field(200, ge=10)
    members: PositiveInt = Field(30, description="Users of each group.")
    requests: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (10, 15, 100), description="Of each user of each group; the last group is the head."
    )
    shown: PositiveInt = Field(5, description="Items of a request.")
    clicks: PositiveInt = Field(10, description="Before each request, just as many as a window.")
    seed: int = Field(0, ge=0)

    @property
    def users(self) -> int:
        """U, one group after the other, the head last."""
        return len(_SIGNS) * self.members


def read_activity(world: ActivityWorld) -> Source:
    """Everybody's requests, spread evenly over the same time."""
    rng = np.random.default_rng(world.seed)
    user_R, at_R = _requests(world)
    item_RC = rng.permuted(np.tile(np.arange(1, world.items + 1), (len(user_R), 1)), axis=1)
    item_RC = item_RC[:, : world.shown]
    taken_RC = rng.random(item_RC.shape) < wanted(world, item_RC, user_R[:, None])
    clicked_RN = rng.integers(1, world.items + 1, (len(user_R), world.clicks))
    before_N = _MINUTE / 100 * np.arange(world.clicks, 0, -1)
    mere = clicks(user_R[:, None], clicked_RN, at_R[:, None] - before_N)
    shown = Requests(item_RC, taken_RC).events(user_R, at_R)
    return Source("synthetic-activity", pl.concat([mere, shown]), truth=_truth(world))


def wanted(world: ActivityWorld, item: Int64Array, user: Int64Array) -> NDArray[np.float64]:
    """Chance that users take items when these are shown to them."""
    sign = np.array(_SIGNS)[user // world.members]
    return _taken(sign * worths(world)[item - 1])


def worths(world: ActivityWorld) -> NDArray[np.float64]:
    """The worth of items 1 to V, in an order that their numbers do not tell."""
    even_V = (2 * np.arange(world.items) + 1) / world.items - 1
    shuffled_V: NDArray[np.float64] = np.random.default_rng([world.seed, 1]).permutation(even_V)
    return shuffled_V


def _requests(world: ActivityWorld) -> tuple[Int64Array, NDArray[np.float64]]:
    """Who is asked, and when; the lives of all users are equally long."""
    span = _MINUTE * 60 * max(world.requests)
    count_U = np.repeat(world.requests, world.members)
    user_R = np.repeat(np.arange(world.users), count_U)
    number_R = np.arange(len(user_R)) - np.repeat(np.cumsum(count_U) - count_U, count_U)
    at_R = span * (number_R + 1) / count_U[user_R] + _MINUTE * user_R / world.users
    return user_R, at_R


def _truth(world: ActivityWorld) -> dict[str, float]:
    """AUCs of worth, its sign known or not."""
    worth_V = np.sort(worths(world))
    head = np.array(world.requests)[np.array(_SIGNS) > 0].sum() / sum(world.requests)
    head_V, tail_V = _taken(worth_V), _taken(-worth_V)
    return {
        "best_auc": _auc(head_V),
        "blind_auc": _auc(head * head_V + (1 - head) * tail_V),
        "blind_tail_auc": _auc(tail_V),
    }


def _auc(taken_V: NDArray[np.float64]) -> float:
    """The AUC of ascending items, each of them taken with its own chance."""
    below_V = np.cumsum(1 - taken_V) - (1 - taken_V) / 2
    return float((taken_V * below_V).sum() / (taken_V.sum() * (1 - taken_V).sum()))


def _taken(worth: NDArray[np.float64]) -> NDArray[np.float64]:
    chance: NDArray[np.float64] = 1 / (1 + np.exp(-_STEEPNESS * worth))
    return chance
