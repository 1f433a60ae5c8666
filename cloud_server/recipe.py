"""How to train, as data; torch-free, so that a wrong setting is told at once."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from shared_models.config import TrunkConfig

Place = Literal["auto", "cpu", "cuda"]


class TrainSettings(BaseModel):
    """How to train; one recipe serves every method, so that they can be compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = Field(40, description="Most epochs of a stage.")
    patience: PositiveInt = Field(3, description="Epochs without a better validation AUC.")
    rows: PositiveInt = Field(256, description="Positives, exposures or sequences in a batch.")
    negatives: PositiveInt = Field(4, description="Drawn for each positive, anew each epoch.")
    learning_rate: PositiveFloat = Field(2e-3, description="Of Adam.")
    weight_decay: NonNegativeFloat = Field(0.0, description="Of Adam.")
    validation_rows: PositiveInt = Field(10_000, description="Most rows to validate on.")
    validation_negatives: PositiveInt = Field(20, description="Drawn for each row, once.")
    device: Place = Field("auto", description="auto: a GPU where there is one.")


class NodeTrainSettings(BaseModel):
    """How to train classifiers of nodes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = Field(300, description="Most epochs of a stage.")
    patience: PositiveInt = Field(
        40, description="Epochs without a better validation micro-F1 or loss."
    )
    nodes: PositiveInt = Field(20_000, description="Most nodes of a batch, a part of the graph.")
    learning_rate: PositiveFloat = Field(1e-2, description="Of Adam.")
    weight_decay: NonNegativeFloat = Field(5e-4, description="Of Adam.")
    device: Place = Field("auto", description="auto: a GPU where there is one.")


_ROOT: Final = Path(__file__).parent.parent
_TRAINING: Final = (
    "cloud_server/dataset.py",
    "cloud_server/hardware.py",
    "cloud_server/recipe.py",
    "cloud_server/standing.py",
    "cloud_server/train.py",
    "shared_models/config.py",
    "shared_models/contract/features.py",
    "shared_models/layers",
    "shared_models/logs/activity.py",
    "shared_models/logs/fields.py",
    "shared_models/logs/neighbours.py",
    "shared_models/method.py",
    "shared_models/trunks",
)
_NODES: Final = (
    "cloud_server/graphs",
    "cloud_server/recipe.py",
    "shared_models/config.py",
    "shared_models/contract/arrays.py",
    "shared_models/contract/bundle.py",
    "shared_models/contract/manifest.py",
    "shared_models/contract/nodes.py",
    "shared_models/graphs.py",
    "shared_models/layers/graph.py",
    "shared_models/logs/graphs",
    "shared_models/node_export.py",
    "shared_models/node_method.py",
)
_EXPORT: Final = (
    "cloud_server/calibration.py",
    "cloud_server/jobs.py",
    "cloud_server/remembered.py",
    "shared_models/contract/arrays.py",
    "shared_models/contract/bundle.py",
    "shared_models/contract/manifest.py",
    "shared_models/control.py",
    "shared_models/encoding.py",
    "shared_models/export.py",
    "shared_models/gradient.py",
    "shared_models/graphs.py",
)


def training_code(method: str, trunk: TrunkConfig) -> str:
    """SHA-256 over the sources that shape the weights of ``method`` over such a trunk."""
    graph = (*_NODES, f"shared_models/methods/{trunk.graph.network}") if trunk.reads_graph else ()
    return _sources(*_TRAINING, *graph, f"shared_models/methods/{method}")


def export_code(method: str) -> str:
    """SHA-256 over the sources that shape a bundle made of given weights."""
    return _sources(*_TRAINING, *_EXPORT, f"shared_models/methods/{method}")


def node_code(method: str) -> str:
    """SHA-256 over the sources that shape weights and bundle of a ``method`` for graphs."""
    return _sources(*_NODES, f"shared_models/methods/{method}")


def digest(*parts: Any) -> str:
    """SHA-256 over values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _sources(*places: str) -> str:
    digest = hashlib.sha256()
    for place in places:
        path = _ROOT / place
        for source in sorted(path.rglob("*.py")) if path.is_dir() else (path,):
            digest.update(source.read_bytes())
    return digest.hexdigest()
