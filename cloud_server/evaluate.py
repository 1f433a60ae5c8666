"""Scores of a trained method by torch alone: the outside check of what devices report."""

# Shapes: M moments, C candidates.

from dataclasses import asdict
from typing import Any, Final

import numpy as np
import polars as pl
import torch

from cloud_server.checkpoints import Trained
from cloud_server.dataset import Dataset, EventKeys
from shared_models.contract import metrics
from shared_models.contract.tensors import Float32Array
from shared_models.logs.moments import SHORTLIST, Moments, protocol_name, replay_moments
from shared_models.logs.prepared import PreparedLog, targets

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
    data = Dataset(log, trained.method.config, torch.device("cpu"), age)
    rows = min(_MOST_ROWS, max(1, _MOST_SCORES // int(moments.sizes.max(initial=1))))
    scores = []
    with torch.inference_mode():
        for start in range(0, len(moments), rows):
            part = moments[start : start + rows]
            candidates_BC, known_BC = part.padded()
            keys = EventKeys(part.user, part.seq, part.at)
            batch = data.batch(
                keys, candidates_BC, np.zeros((0,), np.float32), prior_BC=part.padded_priors()
            )
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
    """One row for each scored candidate: user, seq, item, label, score.

    What came out of an original's table also has ``row``, its place there from 1, and the
    frame is in that order.
    """
    moments = replay_moments(log, candidates, data_seed=data_seed)
    scores = score_moments(trained, log, moments, age)
    sizes = moments.sizes
    scored = pl.DataFrame(
        {
            "user": np.repeat(moments.user, sizes),
            "seq": np.repeat(moments.seq, sizes),
            "item": moments.candidates,
            "label": moments.labels,
            "score": scores,
        }
    )
    return _with_rows(scored, log) if "row" in log.test.columns else scored


def _with_rows(scored: pl.DataFrame, log: PreparedLog) -> pl.DataFrame:
    """``scored`` beside the rows of the table; both list a moment's candidates in order of seq."""
    moment = ("user", "request")
    rows = targets(log.test).select(
        pl.col("user").cast(pl.Int64),
        pl.col("row"),
        seq=pl.col("seq").min().over(moment).cast(pl.Int64),
        place=pl.col("seq").rank("ordinal").over(moment).cast(pl.Int64),
    )
    placed = scored.with_columns(place=pl.int_range(1, pl.len() + 1).over("user", "seq"))
    return placed.join(rows, on=["user", "seq", "place"]).drop("place").sort("row")
