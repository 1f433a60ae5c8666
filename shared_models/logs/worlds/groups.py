"""A world whose truth is known: groups whose preferences conflict, and tastes that drift.

An item has a genre (one of K) and a polarity (+1 or -1); each of the 2 K cells holds equally many.
A user has, at any time, a favourite genre and a group s, +1 or -1. The next item's genre is the
favourite with probability ``1 - noise``, else uniform; its polarity is ``s x polarity of the last
item`` with probability ``1 - noise``, else uniform; within its cell it is uniform. So

    P(item) = [(1 - n) 1(genre = favourite) + n / K] [(1 - n) 1(polarity = s last) + n / 2] / cell.

One group repeats the last polarity, the other alternates: after the same last item they want
opposite halves of the catalogue. Who does not know the group can do no better than the genre. The
group shows only in how neighbouring items of recent behaviour relate. With probability
``1 / drift`` at each event, favourite and group are drawn anew.

``truth["best_auc"]`` is the pooled AUC of P(item), state known, against 99 never-touched items at
the last fifth of each life; ``truth["blind_auc"]`` is that of the genre factor alone.
"""

# Shapes: U users, N events of each, C candidates.

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from shared_models.contract.metrics import auc
from shared_models.contract.tensors import Int64Array
from shared_models.logs.source import Source

_MINUTE = 60.0


class World(BaseModel):
    """What may differ between two worlds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: PositiveInt = 300
    genres: PositiveInt = 5
    cell: PositiveInt = Field(20, description="Items of one genre and polarity.")
    events: int = Field(80, ge=10, description="Events of each user.")
    drift: PositiveInt = Field(40, description="Mean events between two changes of taste.")
    noise: float = Field(0.1, ge=0, lt=1, description="Share of uniform genres and polarities.")
    seed: int = Field(0, ge=0)

    @property
    def items(self) -> int:
        """V."""
        return 2 * self.genres * self.cell


@dataclass(frozen=True, slots=True)
class Lives:
    """What everybody took, and what drove them; each int64 (U, N).

    Attributes:
        item: taken, 1 to V.
        favourite: genre.
        wanted: polarity that the group wants after the last item.
    """

    item: Int64Array
    favourite: Int64Array
    wanted: Int64Array


def read_synthetic(world: World) -> Source:
    """Live every user's life; a user's events are a minute apart, users interleave."""
    lives = live(world)
    user, number = np.indices(lives.item.shape)
    events = pl.DataFrame(
        {
            "user": user.ravel(),
            "item": lives.item.ravel(),
            "at": _MINUTE * number.ravel() + _MINUTE / world.users * user.ravel(),
        }
    )
    ids = np.arange(1, world.items + 1)
    features = {"raw": ids.astype(str), "genre": _genre(world, ids), "polarity": _polarity(ids)}
    return Source("synthetic", events, pl.DataFrame(features), truth=_truth(world, lives))


def live(world: World) -> Lives:
    """Everybody's life, step by step."""
    rng = np.random.default_rng(world.seed)
    shape = (world.users, world.events)
    item, favourite, wanted = (np.zeros(shape, np.int64) for _ in range(3))
    genre_now, group_now = _tastes(world, rng)
    last = rng.choice([-1, 1], world.users)
    for step in range(world.events):
        fresh_genre, fresh_group = _tastes(world, rng)
        turns = rng.random(world.users) < 1 / world.drift
        genre_now = np.where(turns, fresh_genre, genre_now)
        group_now = np.where(turns, fresh_group, group_now)
        favourite[:, step], wanted[:, step] = genre_now, group_now * last
        genre = np.where(_noisy(world, rng), rng.integers(0, world.genres, world.users), genre_now)
        last = np.where(_noisy(world, rng), rng.choice([-1, 1], world.users), wanted[:, step])
        place = rng.integers(0, world.cell, world.users)
        item[:, step] = 1 + 2 * (genre * world.cell + place) + (last > 0)
    return Lives(item, favourite, wanted)


def probabilities(
    world: World, items_UC: Int64Array, favourite_U: Int64Array, wanted_U: Int64Array
) -> NDArray[np.float64]:
    """P(item) for candidates (U, C) of users in a known state; a ``wanted`` of 0 is unknown."""
    genre = (1 - world.noise) * (_genre(world, items_UC) == favourite_U[:, None])
    half = np.where(wanted_U == 0, 0.5, 0.0)[:, None]
    follows = np.maximum(half, _polarity(items_UC) == wanted_U[:, None])
    polarity = (1 - world.noise) * follows + world.noise / 2
    density: NDArray[np.float64] = (genre + world.noise / world.genres) * polarity / world.cell
    return density


def _truth(world: World, lives: Lives) -> dict[str, float]:
    """AUCs of the true probability, with the group known and unknown."""
    rng = np.random.default_rng(world.seed)
    touched = np.zeros((world.users, world.items + 1), bool)
    np.put_along_axis(touched, lives.item, values=True, axis=1)
    touched[:, 0] = True
    known, blind, labels = [], [], []
    for step in range(world.events - world.events // 5, world.events):
        keys = rng.random(touched.shape) + touched
        negatives = np.argsort(keys, axis=1)[:, :99]
        candidates = np.hstack([lives.item[:, step : step + 1], negatives])
        state = lives.favourite[:, step], lives.wanted[:, step]
        known.append(probabilities(world, candidates, *state).ravel())
        blind.append(probabilities(world, candidates, state[0], 0 * state[1]).ravel())
        labels.append(np.tile(np.arange(candidates.shape[1]) == 0, world.users))
    label = np.concatenate(labels)
    scores = {"best_auc": known, "blind_auc": blind}
    return {
        name: round(auc(np.concatenate(parts).astype(np.float32), label), 4)
        for name, parts in scores.items()
    }


def _tastes(world: World, rng: np.random.Generator) -> tuple[Int64Array, Int64Array]:
    return rng.integers(0, world.genres, world.users), rng.choice([-1, 1], world.users)


def _noisy(world: World, rng: np.random.Generator) -> NDArray[np.bool_]:
    noisy: NDArray[np.bool_] = rng.random(world.users) < world.noise
    return noisy


def _genre(world: World, item: Int64Array) -> Int64Array:
    return (item - 1) // (2 * world.cell)


def _polarity(item: Int64Array) -> Int64Array:
    return 2 * ((item - 1) % 2) - 1
