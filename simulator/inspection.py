"""What a device would know of a bundle, for people: ports, slots, rules, sizes, and its proof."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from device_client.classifier import Classifier
from device_client.scorer import Scorer
from shared_models.contract.bundle import TOLERANCE, Bundle, BundleStore, read_bundle
from shared_models.contract.errors import PathMissing
from shared_models.contract.manifest import LearningSpec, Manifest, RefreshRule, Task, UplinkSpec
from shared_models.contract.nodes import NodeSpec
from simulator.progress import size


def open_bundles(folder: Path) -> list[Bundle]:
    """The bundle in ``folder``, or every one that is released in it.

    Raises:
        PathMissing: there is neither.
        BundleError: one is damaged, or of another format.
    """
    if not folder.is_dir():
        raise PathMissing(folder, "folder with a bundle")
    store = BundleStore(folder)
    released = store.released()
    return [store.get(name) for name in released.values()] if released else [read_bundle(folder)]


def inspect_bundle(bundle: Bundle, console: Console) -> None:
    """Print what a device would know of ``bundle``, run its test vector, and say how it went.

    Raises:
        BundleRefused: a device would not activate it.
    """
    for name, value in facts(bundle).items():
        console.print(f"{name:9} {value}", highlight=False, soft_wrap=True)
    console.print(_ports(bundle.manifest))
    ranks = bundle.manifest.task is Task.RANKING
    active = Scorer(bundle) if ranks else Classifier(bundle)
    active.verify()
    console.print(
        f"test vector: comes out within {TOLERANCE:.0e} on {active.provider}",
        highlight=False,
        soft_wrap=True,
    )


def facts(bundle: Bundle) -> dict[str, str]:
    """What the manifest says, by name."""
    manifest = bundle.manifest
    about = {
        "bundle": bundle.id,
        "task": manifest.task.value,
        "method": manifest.method,
        "log": manifest.log_hash,
        "size": size(bundle.size),
        "files": ", ".join(f"{name} {size(spec.size)}" for name, spec in manifest.files.items()),
    }
    if manifest.nodes is not None:
        return about | {"nodes": nodes(manifest.nodes)}
    return about | {
        "items": f"{manifest.features.items:,}, window {manifest.features.window}",
        "refresh": rule(manifest.refresh),
        "uplink": "nothing but whose device asks" if manifest.shares else uplink(manifest.uplink),
        "controller": ", ".join(manifest.controller.calibration) if manifest.controller else "none",
        "learning": learning(manifest.learning),
        "uploads": "the events that it sees" if manifest.uploads else "nothing",
        "slots": ", ".join(f"{slot.name} {slot}" for slot in manifest.slots) or "none",
    }


def nodes(spec: NodeSpec) -> str:
    """What a classifier reads and says, in words."""
    many = "any of" if spec.multi_label else "one of"
    return f"{spec.features:,} features, {many} {spec.classes} classes"


def rule(refresh: RefreshRule) -> str:
    """A refresh rule in words."""
    when = {
        "never": "never",
        "once": "before the first ranking",
        "always": "before each ranking",
        "every-n": f"every {refresh.every} events",
        "random": f"before {refresh.share:.0%} of the rankings, by chance",
        "on-change": f"before the {refresh.share:.0%} of the rankings with the most change",
        "learnt": f"before the {refresh.share:.0%} of the rankings with the highest expected gain",
    }[refresh.rule]
    budget = f", about {refresh.budget:g} B a ranking" if refresh.budget is not None else ""
    oldest = f", believed for {refresh.max_age} events" if refresh.max_age is not None else ""
    return when + budget + oldest


def uplink(spec: UplinkSpec | None) -> str:
    """What a refresh sends up, in words."""
    if spec is None:
        return "nothing"
    if spec.pending:
        return "the events that the cloud has not stored"
    if spec.outputs:
        return f"{', '.join(spec.outputs)}, made of the newest {spec.items} items"
    return f"the newest {spec.items} items"


def learning(spec: LearningSpec | None) -> str:
    """How devices train, in words."""
    if spec is None:
        return "nothing"
    often = "each event" if spec.every == 1 else f"every {spec.every} events"
    return (
        f"after {often}, {spec.steps} x Adam at {spec.rate:g} on the newest {spec.rows} events "
        f"with {spec.negatives} negatives"
    )


def _ports(manifest: Manifest) -> Table:
    table = Table("graph", "port", "name", "type", box=None)
    for graph, spec in manifest.graphs.items():
        for port, tensors in (("input", spec.inputs), ("output", spec.outputs)):
            for tensor in tensors:
                table.add_row(graph, port, tensor.name, str(tensor))
    return table
