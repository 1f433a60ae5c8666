"""The training verbs for methods that classify nodes; a model's folder is as for all others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from rich.console import Console

from cloud_server.bundles import models_folder
from cloud_server.checkpoints import MODEL, Trained, load_node_checkpoint, save_checkpoint
from cloud_server.graphs.evaluate import evaluate_nodes, node_predictions, node_scores
from cloud_server.graphs.train import save_training, train_nodes
from cloud_server.jobs import write_json
from cloud_server.progress import TrainingDisplay
from cloud_server.recipe import NodeTrainSettings
from shared_models.catalog import load_method
from shared_models.config import NodeConfig
from shared_models.contract.bundle import Bundle, BundleStore
from shared_models.contract.errors import BadSetting, PathMissing
from shared_models.contract.tensors import Float32Array
from shared_models.logs.graphs.labelled import LabelledGraph
from shared_models.node_export import compile_node_bundle
from shared_models.node_method import NodeMethod


@dataclass(frozen=True, slots=True)
class NodeJob:
    """What the options of a training verb say, checked."""

    graph: LabelledGraph
    method: str
    config: NodeConfig
    training: NodeTrainSettings
    seed: int
    out: Path
    bundles: Path


def run_train(job: NodeJob) -> None:
    """Train the model, then compile and release its bundle."""
    console = Console()
    torch.set_num_threads(1)
    method: NodeMethod = load_method(job.method, job.config)
    with TrainingDisplay(console, f"{job.method} ({job.graph.name}, seed {job.seed})") as display:
        trained, report = train_nodes(method, job.graph, job.training, job.seed, display)
    save_training(job.out, trained, report)
    bundle = release(trained, job.bundles)
    console.print(f"released {bundle.id[:12]} ({bundle.size / 1024:.0f} KiB)", highlight=False)
    console.print(f"next: concerto-cloud serve --bundles {job.bundles}", soft_wrap=True)


def run_export(job: NodeJob) -> None:
    """Compile the trained model into a bundle and release it."""
    torch.set_num_threads(1)
    bundle = release(_trained(job), job.bundles)
    path, console = job.bundles / bundle.id, Console()
    console.print(f"{path}  {bundle.size / 1024:.0f} KiB, slots: none", soft_wrap=True)
    console.print(f"next: concerto inspect {path}", soft_wrap=True)


def run_evaluate(job: NodeJob) -> None:
    """Classify every node with torch alone, and write metrics.json."""
    _judge(job)


def run_infer(job: NodeJob) -> None:
    """As evaluate, and every score into predictions.parquet."""
    scores_NC = _judge(job)
    draft = job.out / "predictions.draft"
    node_predictions(scores_NC, job.graph).write_parquet(draft)
    draft.replace(job.out / "predictions.parquet")
    Console().print(f"written: {job.out / 'predictions.parquet'}", soft_wrap=True)


def release(trained: Trained[NodeMethod], bundles: Path) -> Bundle:
    """Compile ``trained`` and make it the released bundle of its method under ``bundles``."""
    bundle = compile_node_bundle(trained.method, trained.model, trained.log_hash)
    store = BundleStore(bundles)
    store.add(bundle)
    save_checkpoint(models_folder(bundles, bundle.id), trained)
    store.release(bundle)
    return bundle


def _judge(job: NodeJob) -> Float32Array:
    scores_NC = node_scores(_trained(job), job.graph)
    found, path = evaluate_nodes(scores_NC, job.graph), job.out / "metrics.json"
    write_json(path, found)
    console = Console()
    console.print_json(data=found)
    console.print(f"written: {path}", soft_wrap=True)
    return scores_NC


def _trained(job: NodeJob) -> Trained[NodeMethod]:
    if not (job.out / MODEL).is_file():
        raise PathMissing(job.out / MODEL, f"model: run concerto-cloud train --out {job.out} first")
    trained = load_node_checkpoint(job.out)
    if trained.method.name != job.method:
        raise BadSetting("method", f"{job.out} holds a {trained.method.name}, not {job.method}")
    if trained.log_hash != job.graph.hash:
        raise BadSetting("prefix", f"{job.out} was trained on another graph")
    asked: NodeMethod = load_method(job.method, job.config)
    chosen = {choice.config.digest: choice for choice in asked.choices()}
    if trained.method.config.digest not in chosen:
        raise BadSetting(job.method, f"{job.out} was trained with other settings")
    return replace(trained, method=chosen[trained.method.config.digest])


VERBS: Final[Mapping[str, Callable[[NodeJob], None]]] = {
    "train": run_train,
    "export": run_export,
    "evaluate": run_evaluate,
    "infer": run_infer,
}
