"""How to train on rows that are no log, and what a process of such a training is told."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from cloud_server.recipe import Place


class RowsTraining(BaseModel):
    """How to train; ``--set train.*``, as of a log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = Field(1, description="Times that every row is learnt from (nepochs).")
    rows: PositiveInt = Field(2048, description="Rows of a batch (mini-batch-size).")
    learning_rate: PositiveFloat = Field(0.01, description="Of tables and network (learning-rate).")
    shuffle: bool = Field(True, description="Whether rows come in a new order each epoch.")
    report_every: PositiveInt = Field(100, description="Steps between two reports (print-freq).")
    save_every: PositiveInt = Field(1000, description="Steps between two checkpoints.")
    patience_s: PositiveInt = Field(300, description="Seconds that a process waits for others.")
    device: Place = Field("auto", description="auto: a GPU where there is one.")


class RowsJob(BaseModel):
    """All that a process must know, in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    config: dict[str, Any]
    rows: Path = Field(description="Folder of prepared rows.")
    training: RowsTraining
    seed: NonNegativeInt
    out: Path
    processes: PositiveInt = 1

    @property
    def label(self) -> str:
        """As in ``dlrm (rows, seed 0)``."""
        return f"{self.method} (rows, seed {self.seed})"
