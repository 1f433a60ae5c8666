"""From the share of rankings that may refresh to the threshold that gives it.

Thresholds are found by playing users' validation events, as devices will: each window is compared
with that of the last refresh, which moves when the threshold is passed. On events that the
controller was trained on it says less than on new ones, and thresholds from there would be too low.
The test part is not read.
"""

# Shapes: T events of one user, G events in the uplink, P pairs of them, K thresholds.

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn

from cloud_server.dataset import Behaviour
from shared_models.contract.tensors import Int64Array
from shared_models.control import OUTPUTS, Calibration
from shared_models.layers.sequence import cut_windows
from shared_models.logs.prepared import PreparedLog, targets

Float64Array = NDArray[np.float64]
USERS: Final = 500
EVENTS: Final = 32
SHARES: Final = 100
_TRIED: Final = 200


def calibrated(controller: nn.Module, log: PreparedLog, uplink: int) -> Calibration:
    """Thresholds of each output of ``controller`` for 1 %, 2 %, ... 100 % of the rankings.

    Args:
        controller: ``(event_ids_BG, refreshed_ids_BG) -> (change_B, gain_B)``.
        log: its users' validation events are played; their training events where there are none.
        uplink: G.
    """
    controller = controller.cpu().eval()
    played = [_outputs(controller, windows_TG) for windows_TG in _windows(log, uplink)]
    return {
        name: tuple(thresholds([outputs[index] for outputs in played]).tolist())
        for index, name in enumerate(OUTPUTS)
    }


def thresholds(outputs: Sequence[Float64Array]) -> Float64Array:
    """The threshold for each share of 1 %, 2 %, ...: float64 (100,), falling.

    Args:
        outputs: for each user (T, T), the output at event t for a window refreshed at event s < t,
            as ``[t, s]``.
    """
    everything = np.concatenate([of_user[np.tril_indices_from(of_user, -1)] for of_user in outputs])
    tried_K = np.quantile(everything, np.linspace(1, 0, _TRIED))
    tried_K[-1] -= 1  # one threshold lets every ranking refresh
    asked_K = np.sum([_asked(of_user, tried_K) for of_user in outputs], axis=0)
    share_K = np.maximum.accumulate(asked_K / sum(len(of_user) - 1 for of_user in outputs))
    wanted = np.arange(1, SHARES + 1) / SHARES
    found: Float64Array = np.interp(wanted, share_K, tried_K)
    return found


def _asked(outputs_TT: Float64Array, tried_K: Float64Array) -> Int64Array:
    """Refreshes of one user under each threshold; the first event's is due and not counted."""
    refreshed_K, asked_K = np.zeros((2, len(tried_K)), np.int64)
    for event in range(1, len(outputs_TT)):
        asks_K = outputs_TT[event, refreshed_K] > tried_K
        refreshed_K[asks_K] = event
        asked_K += asks_K
    return asked_K


def _windows(log: PreparedLog, uplink: int) -> Iterator[torch.Tensor]:
    """The uplinks (T, G) before the newest events, `EVENTS` at most, of `USERS` users by chance."""
    behaviour = Behaviour.of(log.events, log.users)
    played = _several(log.validation)
    for user, seqs in (played if len(played) else _several(log.train)).iter_rows():
        histories = behaviour.histories(np.full(len(seqs), user), np.array(seqs), uplink)
        yield cut_windows(torch.from_numpy(histories), uplink)


def _several(events: pl.DataFrame) -> pl.DataFrame:
    """Users with two events and more that have something before them: ``user, seqs``."""
    newest = pl.col("seq").sort().tail(EVENTS).alias("seqs")
    by_user = targets(events).filter(pl.col("seq") > 0).group_by("user").agg(newest).sort("user")
    users = by_user.filter(pl.col("seqs").list.len() > 1)
    return users.sample(min(USERS, len(users)), seed=0)


def _outputs(controller: nn.Module, windows_TG: torch.Tensor) -> list[Float64Array]:
    """Each output for every pair of a user's windows (now t, refreshed s < t), as (T, T)."""
    now_P, then_P = np.tril_indices(len(windows_TG), -1)
    with torch.inference_mode():
        found = controller(windows_TG[now_P], windows_TG[then_P])
    outputs = np.zeros((len(found), len(windows_TG), len(windows_TG)))
    for output_TT, value_P in zip(outputs, found, strict=True):
        output_TT[now_P, then_P] = value_P.numpy()
    return list(outputs)
