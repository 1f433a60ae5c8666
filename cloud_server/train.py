"""Training: a loop over stages that are data, with early stopping in time and exact resume.

All chance of an epoch comes from (seed, stage, epoch), so an epoch that was cut off is repeated
exactly: what is on disk at an epoch's end is all the state there is.
"""

# Shapes: B rows, C candidates.

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cloud_server.checkpoints import Trained, read_tensors, save_checkpoint, write_tensors
from cloud_server.dataset import Dataset
from cloud_server.recipe import TrainSettings
from shared_models.contract.errors import RunFailed
from shared_models.contract.metrics import auc
from shared_models.logs.prepared import PreparedLog
from shared_models.method import Batch, Method, Stage

PROGRESS: Final = "progress.safetensors"
REPORT: Final = "training.json"
_SLOWER: Final = 0.1
"""Rate of the parameters that a stage moves slowly, as a share of the others'."""
_SAMPLE: Final = 2048
"""Training rows that a stage may begin with."""


class Watcher(Protocol):
    """Who is told how training goes."""

    def on_step(self, stage: str, epoch: int, step: int, steps: int) -> None:
        """A batch is done."""
        ...

    def on_epoch(self, stage: str, record: "Epoch") -> None:
        """An epoch is done."""
        ...


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch gave."""

    number: int
    loss: float
    validation_auc: float


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
        return len(self.epochs) >= most or since_best >= settings.patience

    @classmethod
    def read(cls, about: Mapping[str, Any]) -> "Progress":
        """From what was written with the tensors."""
        return cls(
            about["stage"],
            tuple(Epoch(**epoch) for epoch in about["epochs"]),
            tuple(tuple(Epoch(**epoch) for epoch in stage) for stage in about["finished"]),
        )


def choose_device(wanted: str) -> torch.device:
    """``auto`` is the GPU where there is one."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def train(
    method: Method,
    log: PreparedLog,
    settings: TrainSettings,
    seed: int,
    out: Path,
    watcher: Watcher,
) -> Trained:
    """Train every stage of ``method``, or go on where a killed run left off.

    Args:
        method: what to train.
        log: on what; validation decides when to stop, test is not read.
        settings: how.
        seed: of weights, order, negatives and dropout.
        out: folder for the checkpoint, the progress and ``training.json``.
        watcher: told of every batch and epoch.
    """
    device = choose_device(settings.device)
    data = Dataset(log, method.config, device)
    trainer = _Trainer(method, data, settings, seed, watcher)
    state = _State.start(method, data, seed, device).resumed(out / PROGRESS, trainer.fingerprint)
    stages = method.stages()
    while state.progress.stage < len(stages):
        stage = stages[state.progress.stage]
        if state.progress.is_over(stage, settings):
            state.next_stage()
        else:
            trainer.epoch(stage, state)
        state.save(out / PROGRESS, trainer.fingerprint)
    trained = Trained(method, state.model.eval(), log.hash, seed)
    save_checkpoint(out, trained)
    report = [[asdict(epoch) for epoch in stage] for stage in state.progress.finished]
    (out / REPORT).write_text(json.dumps({"stages": report, "device": str(device)}, indent=1))
    return trained


class _State:
    """Model, best weights, optimiser and progress: all that an epoch changes."""

    def __init__(self, model: nn.Module, progress: Progress) -> None:
        self.model, self.progress = model, progress
        self.best: dict[str, Tensor] = {}
        self.moments: dict[str, Tensor] = {}

    @classmethod
    def start(cls, method: Method, data: Dataset, seed: int, device: torch.device) -> "_State":
        return cls(method.build(seed, data.facts).to(device), Progress())

    def resumed(self, path: Path, fingerprint: str) -> "_State":
        """This state, moved to where ``path`` says that the same training stood."""
        if not path.is_file():
            return self
        tensors, about = read_tensors(path)
        if about["fingerprint"] != fingerprint:
            return self
        self.model.load_state_dict(_part("model", tensors))
        self.best, self.moments = _part("best", tensors), _part("moments", tensors)
        self.progress = Progress.read(about)
        return self

    def save(self, path: Path, fingerprint: str) -> None:
        parts = {"model": self.model.state_dict(), "best": self.best, "moments": self.moments}
        tensors = {f"{part}/{n}": t for part, named in parts.items() for n, t in named.items()}
        write_tensors(path, tensors, {"fingerprint": fingerprint, **asdict(self.progress)})

    def record(self, epoch: Epoch) -> None:
        self.progress = replace(self.progress, epochs=(*self.progress.epochs, epoch))
        if self.progress.best == epoch:
            self.best = {name: t.detach().clone() for name, t in self.model.state_dict().items()}

    def next_stage(self) -> None:
        """Go on from the best weights of the stage that is over."""
        self.model.load_state_dict(self.best)
        self.best, self.moments = {}, {}
        finished = (*self.progress.finished, self.progress.epochs)
        self.progress = Progress(self.progress.stage + 1, (), finished)


class _Trainer:
    def __init__(
        self, method: Method, data: Dataset, settings: TrainSettings, seed: int, watcher: Watcher
    ) -> None:
        self._data, self._settings, self._seed, self._watcher = data, settings, seed, watcher
        self.fingerprint = f"{method.config.digest}/{settings.model_dump_json()}/{seed}"

    def epoch(self, stage: Stage, state: _State) -> None:
        number = len(state.progress.epochs) + 1
        seeds = [self._seed, state.progress.stage, number]
        torch_seed = int(np.random.default_rng(seeds).integers(2**62))
        with torch.random.fork_rng():
            torch.manual_seed(torch_seed)
            drawn = torch.Generator().manual_seed(torch_seed)
            loss = self._steps(stage, state, number, (np.random.default_rng(seeds), drawn))
        epoch = Epoch(number, loss, self._validate(stage, state.model))
        state.record(epoch)
        self._watcher.on_epoch(stage.name, epoch)

    def _steps(
        self,
        stage: Stage,
        state: _State,
        number: int,
        chance: tuple[np.random.Generator, torch.Generator],
    ) -> float:
        parameters = list(stage.trainable(state.model))
        slow = list(stage.slow(state.model)) if stage.slow else []
        optimiser = _optimiser(parameters, slow, self._settings, state.moments)
        losses: list[Tensor] = []
        if stage.start is not None and number == 1:
            stage.start(state.model, self._data.sample(chance[0], _SAMPLE))
        state.model.train()
        steps, batches = self._batches(stage, chance[0])
        for batch in batches:
            loss = stage.loss(state.model, batch, chance[1])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.detach())
            self._watcher.on_step(stage.name, number, len(losses), steps)
        state.moments = _moments(optimiser, parameters)
        mean = float(torch.stack(losses).mean())
        if not np.isfinite(mean):
            raise RunFailed(
                f"training diverged in epoch {number}: lower train.learning_rate "
                f"(now {self._settings.learning_rate})"
            )
        return mean

    def _batches(self, stage: Stage, rng: np.random.Generator) -> tuple[int, Iterable[Batch]]:
        """The batches of an epoch, and how many there are."""
        rows = self._settings.rows
        if stage.rows == "sequences":
            sequences = self._data.sequences(rng, rows)
            return len(sequences), sequences
        return self._data.steps(rows), self._data.epoch(rng, rows, self._settings.negatives)

    def _validate(self, stage: Stage, model: nn.Module) -> float:
        model.eval()
        drawn = torch.Generator().manual_seed(0)
        limit, negatives = self._settings.validation_rows, self._settings.validation_negatives
        scores, labels = [], []
        with torch.inference_mode():
            for batch in self._data.validation(limit, negatives):
                scores.append(stage.scores(model, batch, drawn).cpu().numpy().ravel())
                labels.append(batch.labels_BC.cpu().numpy().ravel())
        return auc(np.concatenate(scores), np.concatenate(labels) > 0)


def _optimiser(
    parameters: list[nn.Parameter],
    slow: list[nn.Parameter],
    settings: TrainSettings,
    moments: Mapping[str, Tensor],
) -> torch.optim.Adam:
    """Adam over ``parameters``, those of them that are ``slow`` at a tenth of the rate."""
    slower, rate = set(slow), settings.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": [each for each in parameters if each not in slower]},
        {"params": [each for each in parameters if each in slower], "lr": _SLOWER * rate},
    ]
    optimiser = torch.optim.Adam(groups, lr=rate, weight_decay=settings.weight_decay)
    for index, parameter in enumerate(parameters):
        stored = _part(str(index), moments)
        if stored:
            optimiser.state[parameter] = {
                "step": stored["step"].clone(),
                **{name: stored[name].to(parameter.device) for name in ("exp_avg", "exp_avg_sq")},
            }
    return optimiser


def _moments(optimiser: torch.optim.Adam, parameters: Iterable[nn.Parameter]) -> dict[str, Tensor]:
    return {
        f"{index}/{name}": value
        for index, parameter in enumerate(parameters)
        for name, value in optimiser.state[parameter].items()
    }


def _part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}
