"""What the command line says of methods that classify nodes, checked; torch-free until then."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloud_server.recipe import NodeTrainSettings, digest, node_code
from shared_models.catalog import resolve_nodes
from shared_models.contract.errors import BadSetting
from shared_models.contract.nodes import NodeSpec
from shared_models.contract.settings import validated

# What a graph holds comes from its files, whose hash stands beside the keys in any cache.
_ANY_GRAPH: Final = NodeSpec(features=1, classes=1)


@dataclass(frozen=True, slots=True)
class Place:
    """Seed of a training, and where its model and bundles go."""

    seed: int
    out: Path
    bundles: Path | None


def resolved(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What ``method`` and ``settings`` come to, and the keys of its model and bundle.

    Raises:
        UnknownName, BadSetting: they are wrong.
    """
    config, code = resolve_nodes(method, _ANY_GRAPH, settings), node_code(method)
    training = _training(settings).model_dump(mode="json")
    fields = config.model_dump(mode="json")
    return {
        "method": method,
        "key": digest(method, config.digest, training, code),
        "export_key": digest(fields, code),
        "config": fields,
        "train": training,
    }


def carry_out(
    verb: str,
    method: str,
    settings: Mapping[str, Any],
    prefix: Path | None,
    given: Mapping[str, Any],
    place: Place,
) -> None:
    """Train, export, evaluate or infer on a graph.

    Args:
        verb: which of them.
        method: one that classifies nodes.
        settings: by section.
        prefix: of the graph's files.
        given: options that only logs have, by name.
        place: seed and folders.

    Raises:
        InputError: an option, a setting or the graph is wrong; nothing was written.
    """
    for option in (option for option, value in given.items() if value):
        raise BadSetting(option, f"{method} classifies the nodes of a graph: give --prefix alone")
    if prefix is None:
        raise BadSetting("prefix", f"{method} reads a graph: name it, as in --prefix data/citeseer")
    absent = resolve_nodes(method, _ANY_GRAPH, settings).absent
    training = _training(settings)

    from cloud_server.graphs import jobs  # noqa: PLC0415 - loads torch
    from cloud_server.jobs import BUNDLES  # noqa: PLC0415
    from shared_models.logs.graphs.read import read_graph  # noqa: PLC0415

    graph = read_graph(prefix, absent)
    config = resolve_nodes(method, graph.spec, settings)
    bundles = place.bundles or place.out / BUNDLES
    job = jobs.NodeJob(graph, method, config, training, place.seed, place.out, bundles)
    jobs.VERBS[verb](job)


def _training(settings: Mapping[str, Any]) -> NodeTrainSettings:
    return validated(NodeTrainSettings, "train", settings.get("train", {}))
