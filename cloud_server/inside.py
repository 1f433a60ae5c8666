"""Moments at which a session is under way: where there is a list, and the choice to keep it."""

# Shapes: N items taken, U users, R moments, B rows, H history, K exposures.

from dataclasses import dataclass

import numpy as np
import polars as pl

from cloud_server.behaviour import Behaviour
from shared_models.contract.tensors import Int64Array
from shared_models.logs import sessions
from shared_models.logs.prepared import PreparedLog


@dataclass(frozen=True, slots=True)
class Inside:
    """Moments of the validation part at which a session is under way.

    Attributes:
        behaviour: of training and validation part.
        place_N: int64, how many items of its session come before each item taken.
        now_R: int64, indices of the moments among the items taken.
    """

    behaviour: Behaviour
    place_N: Int64Array
    now_R: Int64Array

    @classmethod
    def of(cls, log: PreparedLog) -> "Inside":
        """Every moment of the validation part but those at which a session begins."""
        known = pl.concat([log.train, log.validation]).sort("user", "seq")
        behaviour = Behaviour.of(known, log.users)
        learnt = Behaviour.of(log.train, log.users)
        count_U = np.diff(behaviour.start_U, append=len(behaviour.taken_N))
        learnt_U = np.diff(learnt.start_U, append=len(learnt.taken_N))
        user_N = np.repeat(np.arange(log.users), count_U)
        place_N = sessions.places(user_N, behaviour.at_N)
        nth_N = np.arange(len(user_N)) - behaviour.start_U[user_N]
        return cls(behaviour, place_N, np.flatnonzero((nth_N >= learnt_U[user_N]) & (place_N > 0)))

    def rows(
        self, now_B: Int64Array, ahead: int, length: int
    ) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Histories (B, H) up to the last exposure, events before now, exposures from now on."""
        since_B = self.place_N[now_B]
        place_BK = np.append(self.place_N, 0)[
            np.minimum(now_B[:, None] + np.arange(ahead), len(self.place_N))
        ]
        same_BK = place_BK == since_B[:, None] + np.arange(ahead)
        left_B = np.minimum.accumulate(same_BK, axis=1).sum(1)
        user_B = np.searchsorted(self.behaviour.start_U, now_B, "right") - 1
        return self.behaviour.until(now_B + left_B, user_B, length), since_B, left_B
