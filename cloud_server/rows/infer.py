"""Probabilities of rows by a trained model: inference only, and the graph that does the same."""

# Shapes: B rows, N dense features, T categories, L ids of a padded bag.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnxruntime
import polars as pl
import torch
from torch import nn

from cloud_server.checkpoints import read_tensors
from cloud_server.rows.batches import padded
from cloud_server.rows.checkpoint import CHECKPOINT, Parts
from cloud_server.rows.settings import RowsJob
from cloud_server.rows.train import learner_of
from shared_models.contract.bundle import same
from shared_models.contract.errors import BadSetting, BundleRefused, PathMissing
from shared_models.contract.metrics import auc
from shared_models.graphs import to_onnx
from shared_models.logs.rows.prepared import PreparedRows

_TOGETHER: Final = 4096
_EDGE: Final = 1e-7
"""What probabilities are kept away from 0 and 1 before a logarithm."""


@dataclass(frozen=True, slots=True)
class TrainedRows:
    """A model that only infers.

    Attributes:
        scorer: module ``(dense_BN, ids_BTL) -> probabilities_B``.
        step: of the training that it was saved at.
    """

    scorer: nn.Module
    step: int


def load_rows_model(job: RowsJob) -> TrainedRows:
    """The model in ``job.out``, with tables of as many bits as the job says.

    Raises:
        PathMissing: there is none.
        BadSetting: it was trained with other settings, or on rows that are numbered otherwise.
    """
    path = job.out / CHECKPOINT
    if not path.is_file():
        raise PathMissing(path, f"model: run concerto-cloud train --out {job.out} first")
    tensors, about = read_tensors(path, lambda name: name.startswith("weights/"))
    rows = PreparedRows.open(job.rows)
    if about["method"] != job.method:
        raise BadSetting("method", f"{job.out} holds a {about['method']}, not {job.method}")
    if _lasting(about["config"]) != _lasting(job.config):
        raise BadSetting(job.method, f"{job.out} was trained with other settings")
    if about["encoding"] != rows.manifest.encoding or about["values"] != rows.values:
        raise BadSetting("rows", f"{job.out} was trained on rows that are numbered otherwise")
    learner = learner_of(job)
    tables = learner.tables(rows.values, about["seed"])
    network = learner.network(len(rows.values), about["seed"])
    Parts(tables, network).load(tensors)
    return TrainedRows(learner.scorer(tables, network).eval(), about["step"])


def predictions(trained: TrainedRows, rows: PreparedRows) -> pl.DataFrame:
    """``row`` from 1 in the test part, ``label`` and ``probability``, in the order of the rows."""
    labels, found = [], []
    for number in range(len(rows.manifest.rows["test"])):
        part = rows.read("test", number)
        labels.append(part.label_R)
        for start in range(0, len(part), _TOGETHER):
            row_B = np.arange(start, min(start + _TOGETHER, len(part)))
            with torch.inference_mode():
                dense_BN = torch.from_numpy(part.dense_RN[row_B])
                found.append(trained.scorer(dense_BN, padded(part, row_B)).numpy())
    frame = pl.DataFrame({"label": np.concatenate(labels), "probability": np.concatenate(found)})
    return frame.with_row_index("row", offset=1)


def measured(frame: pl.DataFrame) -> dict[str, float]:
    """What predictions are worth, and of how many rows."""
    label, chance = frame["label"].to_numpy(), frame["probability"].to_numpy()
    sure = np.clip(chance.astype(np.float64), _EDGE, 1 - _EDGE)
    taken = label > 0.5
    return {
        "rows": len(frame),
        "auc": auc(chance, taken),
        "logloss": float(-(label * np.log(sure) + (1 - label) * np.log(1 - sure)).mean()),
        "mse": float(((chance - label) ** 2).mean()),
        "accuracy": float(((chance > 0.5) == taken).mean()),
    }


def exported(trained: TrainedRows, rows: PreparedRows) -> bytes:
    """An ONNX graph ``(dense, ids) -> probabilities``, compared with torch on test rows.

    Raises:
        BundleRefused: it differs.
    """
    dense, categories = len(rows.manifest.dense), len(rows.values)
    example = {
        "dense": torch.zeros(2, dense),
        "ids": torch.zeros(2, categories, 3, dtype=torch.int64),
    }
    sizes = {"dense": {0: "batch"}, "ids": {0: "batch", 2: "length"}}
    graph = to_onnx(trained.scorer, example, {}, ["probabilities"], sizes)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    part = rows.read("test", 0)
    row_B = np.arange(min(len(part), _TOGETHER))
    ids_BTL, dense_BN = padded(part, row_B), torch.from_numpy(part.dense_RN[row_B])
    with torch.inference_mode():
        wanted = trained.scorer(dense_BN, ids_BTL).numpy()
    feeds = {"dense": dense_BN.numpy(), "ids": ids_BTL.numpy()}
    if not same(session.run(["probabilities"], feeds)[0], wanted):
        raise BundleRefused("the graph differs from torch on the test rows")
    return graph


def _lasting(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that shape the weights."""
    return {name: value for name, value in config.items() if name != "bits"}
