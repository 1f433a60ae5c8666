"""The oracle of sessions: the best way to spend refreshes when all that they bring is known."""

# Shapes: N moments of a session, C candidates of its first one, A moments of all sessions, I lists.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_server.behaviour import Behaviour
from cloud_server.checkpoints import Trained
from shared_models.contract.tensors import Int64Array
from shared_models.layers.sequence import cut_windows
from shared_models.logs.moments import Moments
from shared_models.logs.prepared import PreparedLog
from shared_models.methods.mcrec.network import McrecNetwork

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """The value of each mechanism at each moment, for a list made at each earlier one.

    Attributes:
        user: int64, of each session.
        kept: float64 (N, N) for each session: at moment j with the list of moment i <= j, as
            ``[i, j]``; on the diagonal a fresh list.
        own: the same, re-ranked by the device.
    """

    user: Sequence[int]
    kept: Sequence[Float64Array]
    own: Sequence[Float64Array]


def outcomes(trained: Trained, log: PreparedLog, moments: Moments) -> Known:
    """Of every session of ``moments``, by torch."""
    behaviour = Behaviour.of(log.events, log.users)
    ends = np.cumsum(moments.sizes)
    users, kept, own = [], [], []
    for user in np.unique(moments.user):
        of_user = np.flatnonzero(moments.user == user)
        starts = np.flatnonzero(moments.begins[of_user])
        for about in np.split(of_user, starts[1:]):
            shown = [moments.candidates[ends[m] - moments.sizes[m] : ends[m]] for m in about]
            taken = [moments.labels[ends[m] - moments.sizes[m] : ends[m]] for m in about]
            histories = behaviour.histories(
                moments.user[about], moments.seq[about], trained.method.config.history
            )
            values = _session(trained, torch.from_numpy(histories), shown, taken)
            users.append(int(user))
            kept.append(values[0])
            own.append(values[1])
    return Known(users, kept, own)


def spend(known: Known, budget: int) -> tuple[Int64Array, Float64Array]:
    """Users and values of all moments under the best plan with ``budget`` refreshes at most.

    A price for a refresh makes each session a shortest path; the price is what brings the number
    of refreshes down to the budget.
    """
    low, high = 0.0, 20.0
    for _ in range(40):
        price = (low + high) / 2
        spent = sum(
            _best(kept, own, price)[1] for kept, own in zip(known.kept, known.own, strict=True)
        )
        low, high = (price, high) if spent > budget else (low, price)
    values = [_best(kept, own, high)[0] for kept, own in zip(known.kept, known.own, strict=True)]
    user = np.repeat(known.user, [len(value) for value in values])
    return user, np.concatenate(values)


def _best(kept: Float64Array, own: Float64Array, price: float) -> tuple[Float64Array, int]:
    """Values at each moment, and refreshes inside the session, of the best plan at ``price``."""
    count = len(kept)
    local = np.maximum(kept, own)
    # ahead[i]: the best from the next moment on, holding the list of moment i.
    ahead, asks = np.zeros(count), np.zeros((count, count), bool)
    for moment in range(count - 1, 0, -1):
        fresh = kept[moment, moment] - price + ahead[moment]
        stay = local[:moment, moment] + ahead[:moment]
        asks[:moment, moment] = fresh > stay
        ahead[:moment] = np.maximum(fresh, stay)
    values, held, refreshes = np.zeros(count), 0, 0
    values[0] = kept[0, 0]
    for moment in range(1, count):
        if asks[held, moment]:
            held, refreshes = moment, refreshes + 1
            values[moment] = kept[moment, moment]
        else:
            values[moment] = local[held, moment]
    return values, refreshes


def _session(
    trained: Trained, history_NH: torch.Tensor, shown: Sequence[Any], taken: Sequence[Any]
) -> tuple[Float64Array, Float64Array]:
    """The values of a session's moments for all lists, as `Known` has them."""
    config, network = trained.method.config, trained.model
    assert isinstance(network, McrecNetwork)  # noqa: S101 - only mcrec has sessions to choose in
    listed = torch.from_numpy(np.unique(shown[0]))
    count = len(shown)
    with torch.inference_mode():
        windows = cut_windows(history_NH, config.cloud_window)
        scores_NC = network.cloud(windows, listed.expand(count, -1))
        kept, own = np.zeros((2, count, count))
        for moment, (candidates, labels) in enumerate(zip(shown, taken, strict=True)):
            if len(candidates) < 2:
                continue
            place = torch.searchsorted(listed, torch.from_numpy(candidates))
            prior_IC = scores_NC[: moment + 1, place]
            window = cut_windows(history_NH[moment : moment + 1], config.features.window)
            own_IC = network.device(
                window.expand(moment + 1, -1),
                torch.from_numpy(candidates).expand(moment + 1, -1),
                prior_IC,
            )
            kept[: moment + 1, moment] = _value(prior_IC.numpy(), labels)
            own[: moment + 1, moment] = _value(own_IC.numpy(), labels)
    return kept, own


def _value(scores_IC: NDArray[np.float32], taken_C: NDArray[np.bool_]) -> Float64Array:
    """The share of the others below what was taken, ties half."""
    own, others = scores_IC[:, taken_C][:, :1], scores_IC[:, ~taken_C]
    value: Float64Array = ((own > others) + 0.5 * (own == others)).mean(1)
    return value
