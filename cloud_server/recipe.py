"""How to train, as data; torch-free, so that a wrong setting is told at once."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt


class TrainSettings(BaseModel):
    """How to train; one recipe serves every method, so that they can be compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = Field(40, description="Most epochs of a stage.")
    patience: PositiveInt = Field(3, description="Epochs without a better validation AUC.")
    rows: PositiveInt = Field(256, description="Positives, exposures or sequences in a batch.")
    negatives: PositiveInt = Field(4, description="Drawn for each positive, anew each epoch.")
    learning_rate: PositiveFloat = 2e-3
    weight_decay: NonNegativeFloat = 0.0
    validation_rows: PositiveInt = Field(10_000, description="Most rows to validate on.")
    validation_negatives: PositiveInt = 20
    device: Literal["auto", "cpu", "cuda"] = "auto"


def code_version() -> str:
    """SHA-256 over the sources that a trained bundle depends on."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for package in ("shared_models", "cloud_server"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
