"""Training: a loop over stages that are data, with early stopping in time and exact resume.

All chance of an epoch comes from (seed, stage, epoch), so an epoch that was cut off is repeated
exactly: what is on disk at an epoch's end is all the state there is.
"""

# Shapes: B rows, C candidates.

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cloud_server.checkpoints import REPORT, Trained, save_checkpoint
from cloud_server.dataset import Dataset
from cloud_server.graphs.items import item_vectors
from cloud_server.hardware import choose_device
from cloud_server.recipe import NodeTrainSettings, TrainSettings
from cloud_server.standing import Epoch, Progress, Standing, part_of
from shared_models.contract.errors import RunFailed
from shared_models.contract.metrics import auc
from shared_models.layers.embedding import settle
from shared_models.logs.prepared import PreparedLog
from shared_models.method import Batch, Facts, Method, Stage

PROGRESS: Final = "progress.safetensors"
_SLOWER: Final = 0.1
"""Rate of the parameters that a stage moves slowly, as a share of the others'."""
_SAMPLE: Final = 2048
"""Training rows that a stage may begin with."""


class Watcher(Protocol):
    """Who is told how training goes."""

    def on_step(self, stage: str, epoch: int, step: int, steps: int) -> None:
        """A batch is done."""
        ...

    def on_epoch(self, stage: str, record: Epoch) -> None:
        """An epoch is done."""
        ...


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
    chance = _Chance([seed], anew=True)
    trainer = _Trainer(method, log, settings, chance, watcher)
    return trainer.trained(method.build(seed, trainer.facts), out, seed)


def retrain(
    earlier: Trained, log: PreparedLog, settings: TrainSettings, out: Path, watcher: Watcher
) -> Trained:
    """Go on from the weights of ``earlier``; a stage keeps them where no epoch validates better.

    Args:
        earlier: where to begin.
        log: with what has happened since; otherwise as for `train`.
        settings: how.
        out: folder for the checkpoint, the progress and ``training.json``.
        watcher: told of every batch and epoch.
    """
    chance = _Chance([earlier.seed, int(log.hash[:8], 16)], anew=False)
    method, seed = earlier.method, earlier.seed
    trainer = _Trainer(method, log, settings, chance, watcher)
    # What has nothing to train was counted, and is counted anew.
    model = earlier.model if method.stages() else method.build(seed, trainer.facts)
    return trainer.trained(model, out, seed)


@dataclass(frozen=True, slots=True)
class _Chance:
    """Seeds of all that training draws, and whether it begins with weights drawn from them."""

    seeds: list[int]
    anew: bool


class _Trainer:
    def __init__(
        self,
        method: Method,
        log: PreparedLog,
        settings: TrainSettings,
        chance: _Chance,
        watcher: Watcher,
    ) -> None:
        self._method, self._log, self._settings = method, log, settings
        self._chance, self._watcher = chance, watcher
        self._device = choose_device(settings.device)
        self._data = Dataset(log, method.config, self._device)
        self._fingerprint = f"{method.config.digest}/{settings.model_dump_json()}/{chance.seeds}"

    @property
    def facts(self) -> Facts:
        """What the log says of items; a network over their graph is trained first, where asked."""
        trunk = self._method.config.trunk
        if not (trunk.reads_graph and self._method.stages()):
            return self._data.facts
        network = NodeTrainSettings(device=self._settings.device)
        seed, on_step = self._chance.seeds[0], self._watcher.on_step
        told_VF = item_vectors(self._log, trunk, network, seed, on_step)
        return replace(self._data.facts, item_vectors_VF=torch.from_numpy(told_VF))

    def trained(self, model: nn.Module, out: Path, seed: int) -> Trained:
        """``model`` once every stage is over; on disk as well."""
        state = Standing(model.to(self._device), Progress()).resumed(
            out / PROGRESS, self._fingerprint
        )
        stages = self._method.stages()
        while state.progress.stage < len(stages):
            stage = stages[state.progress.stage]
            if state.progress.is_over(stage, self._settings):
                state.next_stage()
            else:
                self._epoch(stage, state)
            state.save(out / PROGRESS, self._fingerprint)
        settle(state.model)
        trained = Trained(self._method, state.model.eval(), self._log.hash, seed)
        save_checkpoint(out, trained)
        report = [[asdict(epoch) for epoch in stage] for stage in state.progress.finished]
        about = {"stages": report, "device": str(self._device)}
        (out / REPORT).write_text(json.dumps(about, indent=1))
        return trained

    def _epoch(self, stage: Stage, state: Standing) -> None:
        number = state.progress.epochs[-1].number + 1 if state.progress.epochs else self._first
        loss = self._steps_of(stage, state, number) if number else None
        epoch = Epoch(number, loss, self._validate(stage, state.model))
        state.record(epoch)
        self._watcher.on_epoch(stage.name, epoch)

    @property
    def _first(self) -> int:
        """Weights that are not new are judged before the first epoch."""
        return 1 if self._chance.anew else 0

    def _steps_of(self, stage: Stage, state: Standing, number: int) -> float:
        seeds = [*self._chance.seeds, state.progress.stage, number]
        torch_seed = int(np.random.default_rng(seeds).integers(2**62))
        with torch.random.fork_rng():
            torch.manual_seed(torch_seed)
            drawn = torch.Generator().manual_seed(torch_seed)
            return self._steps(stage, state, number, (np.random.default_rng(seeds), drawn))

    def _steps(
        self,
        stage: Stage,
        state: Standing,
        number: int,
        chance: tuple[np.random.Generator, torch.Generator],
    ) -> float:
        parameters = list(stage.trainable(state.model))
        slow = list(stage.slow(state.model)) if stage.slow else []
        optimiser = _optimiser(parameters, slow, self._settings, state.moments)
        losses: list[Tensor] = []
        if stage.start is not None and self._chance.anew and number == 1:
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
        if stage.rows == "sessions":
            moments = self._data.sessions(rng, rows, stage.ahead, stage.passes, stage.most)
            return len(moments), moments
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
        stored = part_of(str(index), moments)
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
