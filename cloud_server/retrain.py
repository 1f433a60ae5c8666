"""Continual training: from what is released, on what devices uploaded, to the next release."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from rich.console import Console
from typing_extensions import override

from cloud_server.bundles import Bundles, models_folder
from cloud_server.checkpoints import Trained, load_checkpoint
from cloud_server.events import EventJournal
from cloud_server.failpoints import failpoint
from cloud_server.jobs import release
from cloud_server.progress import Told, TrainingDisplay
from cloud_server.recipe import TrainSettings
from cloud_server.train import retrain
from shared_models.contract.errors import BadSetting, UnknownName
from shared_models.logs.grown import grown
from shared_models.logs.prepared import PreparedLog, taken

_LOG = "log"


@dataclass(frozen=True, slots=True)
class Retraining:
    """What the options of ``retrain`` say, checked.

    Attributes:
        method: whose released bundle is to be followed by another one.
        bundles: where both are.
        journal: what devices uploaded.
        log: what the method's first bundle was trained on.
        training: the recipe.
        out: for the grown log and the training's progress.
    """

    method: str
    bundles: Path
    journal: Path
    log: PreparedLog
    training: TrainSettings
    out: Path


class _Display(TrainingDisplay):
    """A display that stands where a training may be killed."""

    @override
    def on_epoch(self, stage: str, record: Told) -> None:
        super().on_epoch(stage, record)
        failpoint("retrain.epoch")


def run_retrain(job: Retraining) -> None:
    """Train the released model further, and release what comes of it.

    Raises:
        UnknownName: nothing is released for the method.
        BadSetting: its devices upload nothing, or it was trained on another log.
    """
    console = Console()
    torch.set_num_threads(1)
    earlier = _released(job)
    events = uploaded(job.journal, earlier, job.log)
    log = grown(job.log, events, job.out / _LOG)
    failpoint("retrain.grown")
    title = f"{job.method} ({earlier.method.config.trunk.name}, seed {earlier.seed})"
    with _Display(console, title) as display:
        trained = retrain(earlier, log, job.training, job.out, display)
    failpoint("retrain.trained")
    bundle = release(trained, log, job.bundles)
    console.print(
        f"released {bundle.id[:12]} ({bundle.size / 1024:.0f} KiB) after {len(events):,} events",
        highlight=False,
    )


def uploaded(journal: Path, earlier: Trained, log: PreparedLog) -> pl.DataFrame:
    """What devices have uploaded, ``user``, ``item`` and ``at`` in each user's order.

    A journal that refreshes read begins with what was known of users at training time; that is no
    news. Of each user there are as many newest events as the serving cloud keeps.
    """
    uplink = earlier.method.config.uplink
    known_U = np.zeros(log.users, np.int64)
    if uplink is not None and uplink.pending:
        past = taken(pl.concat([log.train, log.validation]))
        known_U += np.bincount(past["user"].to_numpy(), minlength=log.users)
    with closing(EventJournal(journal)) as entries:
        rows = [
            (entry.user, entry.event.item, entry.event.at)
            for entry in entries
            if entry.user < log.users and entry.sequence >= known_U[entry.user]
        ]
    schema = {"user": pl.Int64, "item": pl.Int64, "at": pl.Float64}
    events = pl.DataFrame(rows, schema=schema, orient="row")
    return events.filter(pl.col("item") <= log.items)


def _released(job: Retraining) -> Trained:
    bundles = Bundles(job.bundles)
    if job.method not in bundles.released:
        raise UnknownName("method", job.method, bundles.released)
    bundle = bundles.read(bundles.released[job.method])
    if not bundle.manifest.uploads:
        raise BadSetting(
            f"{job.method}.uploads", "its devices upload nothing to learn from: set it to true"
        )
    trained = load_checkpoint(models_folder(job.bundles, bundle.id))
    if trained.method.config.features.items != job.log.items:
        raise BadSetting("log", f"{job.method} was trained on another log")
    return trained
