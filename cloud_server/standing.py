"""Where a training stands: on disk at each epoch's end, so that it goes on where it was."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cloud_server.checkpoints import read_tensors, write_tensors
from cloud_server.recipe import TrainSettings
from shared_models.method import Stage


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch gave.

    Attributes:
        number: from 1; 0 for the weights that a stage of retraining begins with.
        loss: mean over its batches; None where there were none.
        validation_auc: after it.
    """

    number: int
    loss: float | None
    validation_auc: float

    @property
    def told(self) -> str:
        """For people."""
        loss = "as before" if self.loss is None else f"loss {self.loss:.4f}"
        return f"{loss}, validation AUC {self.validation_auc:.4f}"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands at the end of an epoch."""

    stage: int = 0
    epochs: tuple[Epoch, ...] = ()
    finished: tuple[tuple[Epoch, ...], ...] = field(default=())

    @property
    def best(self) -> Epoch | None:
        """The epoch with the best validation AUC so far, the first of equals."""
        return max(self.epochs, key=lambda epoch: epoch.validation_auc, default=None)

    def is_over(self, stage: Stage, settings: TrainSettings) -> bool:
        """Whether ``stage`` has run its epochs or lost patience."""
        if self.best is None:
            return False
        since_best = self.epochs[-1].number - self.best.number
        most = min(settings.epochs, stage.epochs or settings.epochs)
        return self.epochs[-1].number >= most or since_best >= settings.patience

    @classmethod
    def read(cls, about: Mapping[str, Any]) -> "Progress":
        """From what was written with the tensors."""
        return cls(
            about["stage"],
            tuple(Epoch(**epoch) for epoch in about["epochs"]),
            tuple(tuple(Epoch(**epoch) for epoch in stage) for stage in about["finished"]),
        )


class Standing:
    """Model, best weights, optimiser and progress: all that an epoch changes."""

    def __init__(self, model: nn.Module, progress: Progress) -> None:
        self.model, self.progress = model, progress
        self.best: dict[str, Tensor] = {}
        self.moments: dict[str, Tensor] = {}

    def resumed(self, path: Path, fingerprint: str) -> "Standing":
        """This one, moved to where ``path`` says that the same training stood."""
        if not path.is_file():
            return self
        tensors, about = read_tensors(path)
        if about["fingerprint"] != fingerprint:
            return self
        self.model.load_state_dict(part_of("model", tensors))
        self.best, self.moments = part_of("best", tensors), part_of("moments", tensors)
        self.progress = Progress.read(about)
        return self

    def save(self, path: Path, fingerprint: str) -> None:
        """Write all of it, under the name of the training that it belongs to."""
        parts = {"model": self.model.state_dict(), "best": self.best, "moments": self.moments}
        tensors = {f"{part}/{n}": t for part, named in parts.items() for n, t in named.items()}
        write_tensors(path, tensors, {"fingerprint": fingerprint, **asdict(self.progress)})

    def record(self, epoch: Epoch) -> None:
        """Take in an epoch, and keep the weights where it is the best one."""
        self.progress = replace(self.progress, epochs=(*self.progress.epochs, epoch))
        if self.progress.best == epoch:
            self.best = {name: t.detach().clone() for name, t in self.model.state_dict().items()}

    def next_stage(self) -> None:
        """Go on from the best weights of the stage that is over."""
        self.model.load_state_dict(self.best)
        self.best, self.moments = {}, {}
        finished = (*self.progress.finished, self.progress.epochs)
        self.progress = Progress(self.progress.stage + 1, (), finished)


def part_of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors whose names begin with ``prefix/``, by the rest of their names."""
    start = f"{prefix}/"
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}
