"""Training on rows that are no log, by one process or several: the same steps either way."""

# Shapes: B rows of the batch, S rows of the own slice.

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Optimizer

from cloud_server.rows.batches import Batches, RowBatch
from cloud_server.rows.checkpoint import Parts, load, save
from cloud_server.rows.settings import RowsJob
from cloud_server.rows.team import Team
from shared_models.catalog import load_rows, rows_config
from shared_models.contract.errors import RunFailed
from shared_models.layers.rules import EPSILON
from shared_models.logs.rows.prepared import PreparedRows
from shared_models.rows import RowLearner, parameters_of


class Watcher(Protocol):
    """Who is told how training goes."""

    def on_report(self, step: int, steps: int, loss: float) -> None:
        """The mean loss since the last report."""
        ...


def learner_of(job: RowsJob) -> RowLearner:
    """What the job trains."""
    config = rows_config(job.method)
    assert config is not None  # noqa: S101 - the job was made with its settings
    learner: RowLearner = load_rows(job.method, config.model_validate(job.config))
    return learner


def fingerprint(job: RowsJob, rows: PreparedRows) -> str:
    """Names a training: what it comes to, step by step, is decided by this."""
    training = job.training.model_dump(
        mode="json", include={"epochs", "rows", "learning_rate", "shuffle"}
    )
    parts = [job.method, job.config, rows.manifest.hash, training, job.seed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def train_rows(job: RowsJob, team: Team, device: torch.device, watcher: Watcher) -> None:
    """Train, or go on where a training stopped; the checkpoint is in ``job.out``.

    Raises:
        RunFailed: it diverged.
    """
    rows = PreparedRows.open(job.rows)
    _Training(job, rows, team, device).run(watcher)


class _Training:
    def __init__(self, job: RowsJob, rows: PreparedRows, team: Team, device: torch.device) -> None:
        self._job, self._team, self._device = job, team, device
        self._learner = learner_of(job)
        self._categories, own = len(rows.values), team.own(len(rows.values))
        tables = self._learner.tables(rows.values, job.seed, own)
        tables.to(device)
        tables.move_by(job.training.learning_rate)
        network = self._learner.network(self._categories, job.seed).to(device)
        named = [parameter for _, parameter in parameters_of(network, tables)]
        optimiser = _optimiser(self._learner, named, job.training.learning_rate)
        self._parts = Parts(tables, network, optimiser)
        self._about: Mapping[str, Any] = {
            "method": job.method,
            "config": job.config,
            "seed": job.seed,
            "encoding": rows.manifest.encoding,
            "values": rows.values,
            "fingerprint": fingerprint(job, rows),
        }
        self._step = load(job.out, self._parts, self._is_ours)
        self._network = team.together(network)
        self._batches = Batches(rows, job.training, job.seed, team)

    def run(self, watcher: Watcher) -> None:
        """Every step that is left."""
        training = self._job.training
        steps = training.epochs * self._batches.per_epoch
        losses: list[Tensor] = []
        for batch in self._batches.after(self._step):
            loss = self._stepped(batch)
            losses.append(loss)
            self._step += 1
            if self._step % training.report_every == 0 or self._step == steps:
                mean = self._team.mean(torch.stack(losses).mean())
                self._refuse_divergence(mean)
                watcher.on_report(self._step, steps, mean)
                losses = []
            if self._step % training.save_every == 0 and self._step < steps:
                self._refuse_divergence(self._team.mean(loss))
                self._save()
        self._save()

    def _stepped(self, batch: RowBatch) -> Tensor:
        """Move everything by one batch; its loss, whose mean over the team is the batch's."""
        assert self._parts.optimiser is not None  # noqa: S101 - as made above
        vectors_BOD = self._parts.tables(batch.bags.to(self._device))
        vectors_STD = self._team.exchanged(vectors_BOD, self._categories)
        logits_S = self._network(batch.dense_SN.to(self._device), vectors_STD)
        losses_S = self._learner.losses(logits_S, batch.labels_S.to(self._device))
        loss = losses_S.sum() * self._team.size / batch.rows
        self._parts.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._parts.optimiser.step()
        return loss.detach()

    def _save(self) -> None:
        save(self._job.out, self._parts, {**self._about, "step": self._step}, self._team)

    def _is_ours(self, about: Mapping[str, Any]) -> bool:
        return bool(about.get("fingerprint") == self._about["fingerprint"])

    def _refuse_divergence(self, loss: float) -> None:
        if not torch.isfinite(torch.tensor(loss)):
            raise RunFailed(
                f"training diverged before step {self._step}: lower train.learning_rate "
                f"(now {self._job.training.learning_rate})"
            )


def _optimiser(learner: RowLearner, parameters: list[nn.Parameter], rate: float) -> Optimizer:
    if learner.optimizer == "sgd":
        return SGD(parameters, rate)
    return Adagrad(parameters, rate, eps=EPSILON)
