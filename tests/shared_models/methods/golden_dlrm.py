"""The run that DLRM's authors printed: weights, batches, losses."""

import json
from pathlib import Path
from typing import Any

import torch

from shared_models.methods.dlrm.config import Architecture
from shared_models.methods.dlrm.network import DLRM

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "golden" / "dlrm.json").read_text()
)
TABLES = [torch.tensor(rows) for rows in GOLDEN["embedding_tables"]]


def architecture() -> Architecture:
    return Architecture(bottom="4-3-2", top="4-2-1", loss=GOLDEN["loss"], optimizer="sgd")


def state() -> dict[str, torch.Tensor]:
    """The printed weights by the names of a checkpoint."""
    tables = {f"tables.{n}.rows": rows for n, rows in enumerate(TABLES)}
    layers = {
        f"network.{side}.{2 * n}.{part}": torch.tensor(layer[part])
        for side, name in (("bottom", "bottom_mlp"), ("top", "top_mlp"))
        for n, layer in enumerate(GOLDEN[name])
        for part in ("weight", "bias")
    }
    return {**tables, **layers}


def as_published() -> DLRM:
    model = DLRM(architecture(), [len(rows) for rows in TABLES], seed=0)
    model.load(state())
    return model


def batches() -> list[tuple[torch.Tensor, Any, torch.Tensor]]:
    return [
        (torch.tensor(each["dense"]), each["bags"], torch.tensor(each["target"])[:, 0])
        for each in GOLDEN["batches"]
    ]
