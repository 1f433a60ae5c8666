"""Weights on disk: safetensors with a JSON header, written beside and renamed. No pickle."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from typing_extensions import TypeVar

from shared_models.catalog import load_method, resolve, resolve_nodes, task_of
from shared_models.config import MethodConfig
from shared_models.contract.errors import BadLog, BadSetting, PathMissing
from shared_models.contract.features import FieldSpec, LogFields
from shared_models.contract.manifest import Task
from shared_models.contract.nodes import NodeSpec
from shared_models.method import Method
from shared_models.node_method import NodeMethod

MODEL: Final = "model.safetensors"
REPORT: Final = "training.json"


M = TypeVar("M", Method, NodeMethod)
M_co = TypeVar("M_co", bound=Method | NodeMethod, default=Method, covariant=True)


@dataclass(frozen=True, slots=True)
class Trained(Generic[M_co]):
    """A method with weights.

    Attributes:
        method: the method.
        model: its module, in evaluation mode.
        log_hash: the prepared log or graph that it was trained on.
        seed: the seed that it was trained with.
    """

    method: M_co
    model: nn.Module
    log_hash: str
    seed: int


def save_checkpoint(folder: Path, trained: Trained[Method | NodeMethod]) -> None:
    """Write ``folder/model.safetensors``."""
    about = {
        "method": trained.method.name,
        "config": trained.method.config.model_dump(mode="json"),
        "log_hash": trained.log_hash,
        "seed": trained.seed,
    }
    write_tensors(folder / MODEL, trained.model.state_dict(), about)


def load_checkpoint(folder: Path) -> Trained:
    """Read what `save_checkpoint` wrote.

    Raises:
        PathMissing: there is no checkpoint in ``folder``.
        UnknownName: its method is not installed here.
        BadSetting: its method does not rank.
    """
    tensors, about = read_tensors(folder / MODEL)
    if task_of(about["method"]) is not Task.RANKING:
        raise BadSetting("method", f"{folder} holds a {about['method']}, which does not rank")
    return _loaded(load_method(about["method"], _config(about)), tensors, about)


def load_node_checkpoint(folder: Path) -> Trained[NodeMethod]:
    """As `load_checkpoint`, of a method that classifies nodes."""
    tensors, about = read_tensors(folder / MODEL)
    fields = dict(about["config"])
    nodes = NodeSpec(**fields.pop("nodes", {}))
    config = resolve_nodes(about["method"], nodes, {about["method"]: fields})
    return _loaded(load_method(about["method"], config), tensors, about)


def _loaded(method: M, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Trained[M]:
    model = method.build(about["seed"])
    model.load_state_dict(tensors)
    return Trained(method, model.eval(), about["log_hash"], about["seed"])


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write ``tensors`` and the JSON-able ``about``, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(owned, draft, {"about": json.dumps(about)})
    draft.replace(path)


def read_tensors(
    path: Path, wanted: Callable[[str], bool] = lambda _: True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote, or those of the tensors whose names are ``wanted``.

    Raises:
        PathMissing: no such file.
        BadLog: it is not a checkpoint.
    """
    if not path.is_file():
        raise PathMissing(path)
    try:
        with safe_open(path, framework="pt") as stored:
            about = json.loads(stored.metadata()["about"])
            names = filter(wanted, stored.keys())
            return {name: stored.get_tensor(name) for name in names}, about
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadLog(f"{path}: not a checkpoint of ours") from error


def _config(about: Mapping[str, Any]) -> MethodConfig:
    fields = dict(about["config"])
    features, trunk = fields.pop("features"), dict(fields.pop("trunk"))
    own = {**fields, "window": features["window"]}
    return resolve(
        about["method"],
        features["items"],
        trunk.pop("name"),
        {about["method"]: own, "trunk": trunk},
        LogFields(
            *(spec and FieldSpec(**spec) for spec in (features["item_fields"], features["profile"]))
        ),
    )
