"""From the share of rankings that may refresh to the threshold that gives it.

Thresholds are found by playing users' validation events, as devices will: each window is compared
with that of the last refresh, which moves when the threshold is passed. On events that the
controller was trained on it says less than on new ones, and thresholds from there would be too low.
The test part is not read.
"""

# Shapes: T events of one user, G events in the uplink, P pairs of them, K thresholds.

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn

from cloud_server.behaviour import Behaviour
from shared_models.contract.tensors import Int64Array
from shared_models.control import OUTPUTS, Calibration
from shared_models.layers.sequence import cut_windows
from shared_models.logs import sessions
from shared_models.logs.prepared import PreparedLog, targets

Float64Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
USERS: Final = 500
EVENTS: Final = 32
SHARES: Final = 100
_TRIED: Final = 200


def calibrated(
    controller: nn.Module, log: PreparedLog, uplink: int, *, by_session: bool = False
) -> Calibration:
    """Thresholds of each output of ``controller`` for 1 %, 2 %, ... 100 % of the rankings.

    Args:
        controller: ``(event_ids_BG, refreshed_ids_BG) -> (change_B, gain_B, ...)``.
        log: its users' validation events are played; their training events where there are none.
        uplink: G.
        by_session: whether what a refresh brings ends with a session. Then the next one begins with
            a refresh that is due, and shares are of the other rankings.
    """
    controller = controller.cpu().eval()
    lives = list(_lives(log, uplink))
    played = [_outputs(controller, life.windows_TG) for life in lives]
    begins = [life.begins_T for life in lives] if by_session else None
    return {
        name: tuple(thresholds([outputs[index] for outputs in played], begins).tolist())
        for index, name in enumerate(OUTPUTS)
    }


def thresholds(
    outputs: Sequence[Float64Array], begins: Sequence[Flags] | None = None
) -> Float64Array:
    """The threshold for each share of 1 %, 2 %, ...: float64 (100,), falling.

    Where there is nobody to play they are 0: a refresh wherever a change, or a gain, is expected.

    Args:
        outputs: for each user (T, T), the output at event t for a window refreshed at event s < t,
            as ``[t, s]``.
        begins: for each user (T,), the events at which a refresh is due; None: the first one's.
    """
    if not outputs:
        return np.zeros(SHARES)
    begins = begins or [np.zeros(len(of_user), bool) for of_user in outputs]
    everything = np.concatenate([of_user[np.tril_indices_from(of_user, -1)] for of_user in outputs])
    tried_K = np.quantile(everything, np.linspace(1, 0, _TRIED))
    tried_K[-1] -= 1  # one threshold lets every ranking refresh
    plays = zip(outputs, begins, strict=True)
    asked_K = np.sum([_asked(of_user, tried_K, due) for of_user, due in plays], axis=0)
    free = sum(int((~due[1:]).sum()) for due in begins)
    share_K = np.maximum.accumulate(asked_K / max(free, 1))
    wanted = np.arange(1, SHARES + 1) / SHARES
    found: Float64Array = np.interp(wanted, share_K, tried_K)
    return found


def _asked(outputs_TT: Float64Array, tried_K: Float64Array, due_T: Flags) -> Int64Array:
    """Refreshes of one user under each threshold; those that are due, as the first, not counted."""
    refreshed_K, asked_K = np.zeros((2, len(tried_K)), np.int64)
    for event in range(1, len(outputs_TT)):
        asks_K = (outputs_TT[event, refreshed_K] > tried_K) & ~due_T[event]
        refreshed_K[asks_K | due_T[event]] = event
        asked_K += asks_K
    return asked_K


class _Life(NamedTuple):
    """The newest events of one user.

    Attributes:
        windows_TG: the uplink before each.
        begins_T: where a session begins.
    """

    windows_TG: torch.Tensor
    begins_T: Flags


def _lives(log: PreparedLog, uplink: int) -> Iterator[_Life]:
    """The newest events, `EVENTS` at most, of `USERS` users by chance."""
    behaviour = Behaviour.of(log.events, log.users)
    played = _several(log.validation)
    for user, seqs, times in (played if len(played) else _several(log.train)).iter_rows():
        users = np.full(len(seqs), user)
        histories = behaviour.histories(users, np.array(seqs), uplink)
        begins_T = sessions.places(users, np.array(times)) == 0
        yield _Life(cut_windows(torch.from_numpy(histories), uplink), begins_T)


def _several(events: pl.DataFrame) -> pl.DataFrame:
    """Users with two events and more that have something before them: ``user, seqs, times``."""
    newest = pl.col("seq", "at").sort_by("seq").tail(EVENTS)
    by_user = targets(events).filter(pl.col("seq") > 0).group_by("user").agg(newest).sort("user")
    users = by_user.filter(pl.col("seq").list.len() > 1)
    return users.sample(min(USERS, len(users)), seed=0)


def _outputs(controller: nn.Module, windows_TG: torch.Tensor) -> list[Float64Array]:
    """Each of `OUTPUTS` for every pair of a user's windows (now t, refreshed s < t), as (T, T)."""
    now_P, then_P = np.tril_indices(len(windows_TG), -1)
    with torch.inference_mode():
        found = controller(windows_TG[now_P], windows_TG[then_P])
    outputs = np.zeros((len(OUTPUTS), len(windows_TG), len(windows_TG)))
    for output_TT, value_P in zip(outputs, found, strict=False):
        output_TT[now_P, then_P] = value_P.numpy()
    return list(outputs)
