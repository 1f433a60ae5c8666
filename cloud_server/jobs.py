"""The training verbs: what train, export, evaluate and infer do with one model's folder.

A model's folder holds ``model.safetensors``, ``training.json``, ``bundles/`` (ready to serve) and,
after evaluate or infer, ``metrics.json`` and ``predictions.parquet``.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console

from cloud_server.bpr import BprSettings, run_bpr
from cloud_server.bundles import models_folder
from cloud_server.calibration import calibrated
from cloud_server.checkpoints import MODEL, Trained, load_checkpoint, save_checkpoint
from cloud_server.evaluate import evaluate, predictions
from cloud_server.failpoints import failpoint
from cloud_server.progress import TrainingDisplay
from cloud_server.recipe import TrainSettings
from cloud_server.remembered import write_seed
from cloud_server.train import train
from shared_models.catalog import load_method
from shared_models.config import MethodConfig
from shared_models.contract.bundle import Bundle, BundleStore
from shared_models.contract.errors import BadSetting, PathMissing
from shared_models.contract.processes import release_freed_memory
from shared_models.export import compile_bundle
from shared_models.logs.prepared import PreparedLog

BUNDLES: Final = "bundles"


@dataclass(frozen=True, slots=True)
class Job:
    """What the options of a training verb say, checked."""

    log: PreparedLog
    method: str
    config: MethodConfig
    training: TrainSettings
    seed: int
    data_seed: int
    candidates: str
    age: int
    out: Path
    bundles: Path

    @property
    def label(self) -> str:
        """As in ``duet (sasrec, seed 0)``."""
        return f"{self.method} ({self.config.trunk.name}, seed {self.seed})"


def run_train(job: Job) -> None:
    """Train the model, then compile and release its bundle."""
    console = Console()
    torch.set_num_threads(1)
    method = load_method(job.method, job.config)
    with TrainingDisplay(console, job.label) as display:
        trained = train(method, job.log, job.training, job.seed, job.out, display)
    bundle = release(trained, job.log, job.bundles)
    console.print(f"released {bundle.id[:12]} ({bundle.size / 1024:.0f} KiB)", highlight=False)
    console.print(f"next: concerto-cloud serve --bundles {job.bundles}", soft_wrap=True)


def run_export(job: Job) -> None:
    """Compile the trained model into a bundle and release it."""
    console = Console()
    torch.set_num_threads(1)
    bundle = release(_trained(job), job.log, job.bundles)
    path = job.bundles / bundle.id
    slots = ", ".join(spec.name for spec in bundle.manifest.slots) or "none"
    console.print(f"{path}  {bundle.size / 1024:.0f} KiB, slots: {slots}", soft_wrap=True)
    console.print(f"next: concerto inspect {path}", soft_wrap=True)


def run_evaluate(job: Job) -> None:
    """Score the test part with torch alone, and write metrics.json."""
    console = Console()
    found = evaluate(
        _trained(job),
        job.log,
        data_seed=job.data_seed,
        candidates=job.candidates,
        age=job.age,
    )
    write_json(job.out / "metrics.json", found)
    console.print_json(data=found)
    console.print(f"written: {job.out / 'metrics.json'}", soft_wrap=True)


def run_infer(job: Job) -> None:
    """As evaluate, and every score into predictions.parquet."""
    frame = predictions(
        _trained(job),
        job.log,
        data_seed=job.data_seed,
        candidates=job.candidates,
        age=job.age,
    )
    draft = job.out / "predictions.draft"
    frame.write_parquet(draft)
    draft.replace(job.out / "predictions.parquet")
    run_evaluate(job)
    Console().print(f"written: {job.out / 'predictions.parquet'}", soft_wrap=True)


def run_factors(log: PreparedLog, seed: int, out: Path) -> None:
    """Train and test matrix factorisation, and write metrics.json."""
    torch.set_num_threads(1)
    found = run_bpr(log, BprSettings(), seed)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "metrics.json", found)
    console = Console()
    console.print_json(data=found)
    console.print(f"written: {out / 'metrics.json'}", soft_wrap=True)


def release(trained: Trained, log: PreparedLog, bundles: Path) -> Bundle:
    """Compile ``trained`` and make it the released bundle of its method under ``bundles``."""
    uplink = trained.method.config.uplink
    by_session = trained.method.config.ranking is not None
    calibrate = partial(
        calibrated, log=log, uplink=uplink.items if uplink else 0, by_session=by_session
    )
    release_freed_memory()  # a training's: compiling takes as much again
    bundle = compile_bundle(trained.method, trained.model, trained.log_hash, calibrate)
    store = BundleStore(bundles)
    store.add(bundle)
    folder = models_folder(bundles, bundle.id)
    save_checkpoint(folder, trained)
    write_seed(folder, trained, log)
    failpoint("retrain.stored")
    store.release(bundle)
    return bundle


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write ``data``, all or nothing."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(data, indent=1, sort_keys=True))
    draft.replace(path)


def _trained(job: Job) -> Trained:
    if not (job.out / MODEL).is_file():
        raise PathMissing(job.out / MODEL, f"model: run concerto-cloud train --out {job.out} first")
    trained = load_checkpoint(job.out)
    if trained.method.name != job.method:
        raise BadSetting("method", f"{job.out} holds a {trained.method.name}, not {job.method}")
    if trained.log_hash != job.log.hash:
        raise BadSetting("log", f"{job.out} was trained on another log or split")
    if trained.method.config.digest != job.config.digest:
        raise BadSetting(job.method, f"{job.out} was trained with other settings")
    # What shapes only the bundle is as asked for now, not as it was when this was trained.
    return replace(trained, method=load_method(job.method, job.config))


VERBS: Final[Mapping[str, Callable[[Job], None]]] = {
    "train": run_train,
    "export": run_export,
    "evaluate": run_evaluate,
    "infer": run_infer,
}
