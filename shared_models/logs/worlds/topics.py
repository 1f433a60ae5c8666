"""A catalogue of topics: what the worlds of behaviour and requests are made of.

A request shows one item that the user takes and four others. The topics of the others are uniform
and independent of everything, the five items differ, and within its topic an item says nothing. So
whoever scores a candidate can know its topic at best, and AUCs have closed forms.
"""

# Shapes: R requests, C candidates of each.

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from shared_models.contract.tensors import Int64Array

NEGATIVES: Final = 4


class Topics(BaseModel):
    """Items 1 to V, one topic after the other, as many in each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(8, ge=3)
    size: int = Field(25, gt=NEGATIVES, description="Items of a topic.")

    @property
    def items(self) -> int:
        """V."""
        return self.count * self.size

    def of(self, item: Int64Array) -> Int64Array:
        """The topic of each item, from 0; items beyond V belong to none of these topics."""
        return (item - 1) // self.size

    def around(self, topic: Int64Array, share: float, rng: np.random.Generator) -> Int64Array:
        """Each topic with probability ``share``, else a uniform one in its place."""
        uniform = rng.integers(0, self.count, topic.shape)
        return np.where(rng.random(topic.shape) < share, topic, uniform)

    def draw(self, topic: Int64Array, rng: np.random.Generator) -> Int64Array:
        """A uniform item of each topic."""
        return 1 + topic * self.size + rng.integers(0, self.size, topic.shape)

    def requests(self, taken_R: Int64Array, rng: np.random.Generator) -> "Requests":
        """Requests at which users take an item of these topics."""
        shape = (len(taken_R), 1 + NEGATIVES)
        taken_RC = np.arange(shape[1]) == rng.integers(0, shape[1], shape[:1])[:, None]
        topic_RC = np.where(taken_RC, taken_R[:, None], rng.integers(0, self.count, shape))
        # Distinct places, so that items differ also where topics agree.
        place_RC = rng.permuted(np.tile(np.arange(self.size), (len(taken_R), 1)), axis=1)
        return Requests(1 + topic_RC * self.size + place_RC[:, : shape[1]], taken_RC)


@dataclass(frozen=True, slots=True)
class Requests:
    """What was shown together, and what of it was taken.

    Attributes:
        item_RC: int64.
        taken_RC: bool, one in each row.
    """

    item_RC: Int64Array
    taken_RC: NDArray[np.bool_]

    def events(self, user_R: Int64Array, at_R: NDArray[np.float64]) -> pl.DataFrame:
        """Labelled exposures; requests are numbered from 0."""
        count = self.item_RC.shape[1]
        return pl.DataFrame(
            {
                "user": np.repeat(user_R, count),
                "item": self.item_RC.ravel(),
                "at": np.repeat(at_R, count),
                "label": self.taken_RC.ravel().astype(np.int64),
                "request": np.repeat(np.arange(len(user_R)), count),
            }
        )


def clicks(user: Int64Array, item: Int64Array, at: NDArray[np.float64]) -> pl.DataFrame:
    """Mere behaviour; arrays of any shapes that fit together."""
    user, item, at = np.broadcast_arrays(user, item, at)
    events = pl.DataFrame({"user": user.ravel(), "item": item.ravel(), "at": at.ravel()})
    return events.with_columns(label=pl.lit(1, pl.Int64), request=pl.lit(None, pl.Int64))


def two_level_auc(taken: float, others: float) -> float:
    """The AUC of knowing of each candidate only whether it is in a set.

    Args:
        taken: chance that what is taken is in the set.
        others: the same for what is not.
    """
    return 0.5 + (taken - others) / 2
