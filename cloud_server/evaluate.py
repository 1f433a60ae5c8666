"""Scores of a trained method by torch alone: the outside check of what devices report."""

# Shapes: M moments, C candidates.

from dataclasses import asdict
from typing import Any, Final

import numpy as np
import polars as pl
import torch

from cloud_server.checkpoints import Trained
from cloud_server.dataset import Dataset
from shared_models.contract import metrics
from shared_models.contract.tensors import Float32Array
from shared_models.logs.moments import SHORTLIST, Moments, protocol_name, replay_moments
from shared_models.logs.prepared import PreparedLog
from shared_models.method import Batch

_MOST_ROWS: Final = 256
_MOST_SCORES: Final = 65_536
"""Scored together; bounds the memory that candidates' vectors take."""


def score_moments(trained: Trained, log: PreparedLog, moments: Moments, age: int) -> Float32Array:
    """Logits of all candidates of all moments, one moment after the other.

    Args:
        trained: the model.
        log: what the moments are of.
        moments: what to score.
        age: events since the window of every overlay.
    """
    data = Dataset(log, trained.method.config.history + age, torch.device("cpu"))
    rows = min(_MOST_ROWS, max(1, _MOST_SCORES // int(moments.sizes.max(initial=1))))
    scores = []
    with torch.inference_mode():
        for start in range(0, len(moments), rows):
            part = moments[start : start + rows]
            history_BH = data.histories(part.user, part.seq)
            candidates_BC, known_BC = part.padded()
            batch = Batch(history_BH, torch.from_numpy(candidates_BC), torch.zeros(0))
            logits_BC = trained.method.score(trained.model, batch, age).numpy()
            scores.append(logits_BC[known_BC])
    return np.concatenate(scores)


def evaluate(
    trained: Trained,
    log: PreparedLog,
    *,
    data_seed: int,
    candidates: str = SHORTLIST,
    age: int = 0,
) -> dict[str, Any]:
    """Test metrics with 95 % intervals over users, and the protocol that they were taken by."""
    moments = replay_moments(log, candidates, data_seed=data_seed)
    scores = score_moments(trained, log, moments, age)
    found: dict[str, Any] = {
        "protocol": protocol_name(log, candidates, data_seed),
        "overlay_age": age,
    }
    ranked = metrics.Ranked(moments.user, moments.sizes, moments.labels, scores)
    for name, metric in metrics.evaluate(ranked, log.users).items():
        found[name] = asdict(metrics.bootstrap_interval(metric))
    return found


def predictions(
    trained: Trained,
    log: PreparedLog,
    *,
    data_seed: int,
    candidates: str = SHORTLIST,
    age: int = 0,
) -> pl.DataFrame:
    """One row for each scored candidate: user, seq, item, label, score."""
    moments = replay_moments(log, candidates, data_seed=data_seed)
    scores = score_moments(trained, log, moments, age)
    sizes = moments.sizes
    return pl.DataFrame(
        {
            "user": np.repeat(moments.user, sizes),
            "seq": np.repeat(moments.seq, sizes),
            "item": moments.candidates,
            "label": moments.labels,
            "score": scores,
        }
    )
