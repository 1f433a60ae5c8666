"""Training of node classifiers: stages that are data, depth and epoch chosen by validation.

Each choice of settings is trained from the same seed; the one with the best validation micro-F1
wins, the lower loss where two are equal.
"""

# Shapes: N nodes, C classes.

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cloud_server.checkpoints import REPORT, Trained, save_checkpoint
from cloud_server.graphs.parts import GraphData
from cloud_server.hardware import choose_device
from cloud_server.recipe import NodeTrainSettings
from shared_models.contract.classification import classification
from shared_models.contract.errors import BadLog, RunFailed
from shared_models.logs.graphs.labelled import LabelledGraph
from shared_models.node_method import NodeMethod, NodeStage

_TOLD_EVERY: Final = 10


@dataclass(frozen=True, slots=True)
class NodeEpoch:
    """What one epoch gave.

    Attributes:
        number: from 1.
        loss: mean over its batches.
        validation_f1: micro-F1 on the whole graph after it.
        validation_loss: without weights.
    """

    number: int
    loss: float
    validation_f1: float
    validation_loss: float

    @property
    def told(self) -> str:
        """For people."""
        return f"loss {self.loss:.4f}, validation micro-F1 {self.validation_f1:.4f}"

    @property
    def rank(self) -> tuple[float, float]:
        """The higher the better."""
        return self.validation_f1, -self.validation_loss


class NodeWatcher(Protocol):
    """Who is told how training goes."""

    def on_step(self, stage: str, epoch: int, step: int, steps: int) -> None:
        """A batch is done."""
        ...

    def on_epoch(self, stage: str, record: NodeEpoch) -> None:
        """An epoch is done."""
        ...


def train_nodes(
    method: NodeMethod,
    graph: LabelledGraph,
    settings: NodeTrainSettings,
    seed: int,
    watcher: NodeWatcher,
) -> tuple[Trained[NodeMethod], Mapping[str, object]]:
    """Train each choice of ``method``; gives the best one, and a report of all.

    Args:
        method: what to train.
        graph: on what; the test part is not read.
        settings: how.
        seed: of weights, parts and dropout.
        watcher: told of batches and epochs.

    Raises:
        BadLog: no labelled nodes to train on, or to validate by.
        RunFailed: the loss is no number any more.
    """
    for part in ("train", "validation"):
        if not len(graph.nodes(part)):
            raise BadLog(f"{graph.name}: no labelled node is in the {part} part")
    data = GraphData(graph, choose_device(settings.device))
    best: tuple[NodeEpoch, Trained[NodeMethod]] | None = None
    report = []
    for choice in method.choices():
        trainer = _Trainer(choice, data, settings, seed, watcher)
        model, stages = trainer.trained()
        last = max(stages[-1], key=lambda epoch: epoch.rank)
        report.append({"config": choice.config.model_dump(mode="json"), "stages": stages})
        if best is None or last.rank > best[0].rank:
            best = last, Trained(choice, model, graph.hash, seed)
    assert best is not None  # noqa: S101 - every method has at least one choice
    return best[1], {"choices": report, "chosen": best[1].method.config.digest}


def save_training(out: Path, trained: Trained[NodeMethod], report: Mapping[str, object]) -> None:
    """Write the checkpoint and ``training.json``."""
    save_checkpoint(out, trained)
    (out / REPORT).write_text(json.dumps(report, indent=1, default=asdict))


class _Trainer:
    def __init__(
        self,
        method: NodeMethod,
        data: GraphData,
        settings: NodeTrainSettings,
        seed: int,
        watcher: NodeWatcher,
    ) -> None:
        self._method, self._data, self._settings = method, data, settings
        self._seed, self._watcher = seed, watcher
        self._validation = data.whole("validation")
        self._device = self._validation.features_NF.device

    def trained(self) -> tuple[nn.Module, list[list[NodeEpoch]]]:
        """The model once every stage is over, and what its epochs gave."""
        model = self._method.build(self._seed).to(self._device)
        told = [
            self._trained_stage(stage, number, model)
            for number, stage in enumerate(self._method.stages())
        ]
        return model.cpu().eval(), told

    def _trained_stage(self, stage: NodeStage, place: int, model: nn.Module) -> list[NodeEpoch]:
        """Leaves ``model`` at its best epoch."""
        settings = self._settings
        optimiser = torch.optim.Adam(
            stage.trainable(model), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        epochs: list[NodeEpoch] = []
        best: NodeEpoch | None = None
        since = 0
        kept: dict[str, Tensor] = {}
        weights_N = torch.ones(len(self._data), device=self._device)
        for number in range(1, settings.epochs + 1):
            with torch.random.fork_rng():
                rng = np.random.default_rng([self._seed, place, number])
                torch.manual_seed(int(rng.integers(2**62)))
                loss = self._epoch(stage, model, optimiser, (number, rng, weights_N))
            epoch = NodeEpoch(number, loss, *self._validated(stage, model))
            # With several labels F1 may fall to 0 before it rises, while the loss gets better.
            hopeful = all(epoch.validation_loss < other.validation_loss for other in epochs)
            epochs.append(epoch)
            if best is None or epoch.rank > best.rank:
                best, hopeful = epoch, True
                kept = {name: value.clone() for name, value in model.state_dict().items()}
            since = 0 if hopeful else since + 1
            if since >= settings.patience:
                break
            if number % _TOLD_EVERY == 0:
                self._watcher.on_epoch(stage.name, epoch)
        model.load_state_dict(kept)
        return epochs

    def _epoch(
        self,
        stage: NodeStage,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        standing: tuple[int, np.random.Generator, Tensor],
    ) -> float:
        number, rng, weights_N = standing
        drawn = torch.Generator(self._device).manual_seed(int(rng.integers(2**62)))
        losses, steps = [], self._data.steps(self._settings.nodes)
        for step, part in enumerate(self._data.epoch(rng, self._settings.nodes), 1):
            targets = torch.from_numpy(part.targets_T).to(self._device)
            if stage.weigh is not None:
                before_M = weights_N[targets]
                weights_N[targets] = stage.weigh(model.eval(), part.batch, before_M, drawn)
            logits_NC = stage.scores(model.train(), part.batch)
            loss = stage.loss(model, part.batch, logits_NC, weights_N[targets])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.detach())
            self._watcher.on_step(stage.name, number, step, steps)
        mean = float(torch.stack(losses).mean())
        if not np.isfinite(mean):
            rate = self._settings.learning_rate
            raise RunFailed(
                f"training diverged in epoch {number}: lower train.learning_rate (now {rate})"
            )
        return mean

    def _validated(self, stage: NodeStage, model: nn.Module) -> tuple[float, float]:
        """Micro-F1 and loss on the whole graph."""
        batch = self._validation
        with torch.inference_mode():
            logits_NC = stage.scores(model.eval(), batch)
            alike_M = torch.ones(len(batch.targets_M), device=self._device)
            loss = stage.loss(model, batch, logits_NC, alike_M)
        scores, labels = (
            values[batch.targets_M].cpu().numpy() for values in (logits_NC, batch.labels_NC)
        )
        multi_label = self._method.config.nodes.multi_label
        return classification(scores, labels, multi_label=multi_label)["micro_f1"], float(loss)
