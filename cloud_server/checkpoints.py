"""Weights on disk: safetensors with a JSON header, written beside and renamed. No pickle."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from shared_models.catalog import load_method, resolve
from shared_models.config import MethodConfig
from shared_models.contract.errors import BadLog, PathMissing
from shared_models.contract.features import FieldSpec, LogFields
from shared_models.method import Method

MODEL: Final = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Trained:
    """A method with weights.

    Attributes:
        method: the method.
        model: its module, in evaluation mode.
        log_hash: the prepared log that it was trained on.
        seed: the seed that it was trained with.
    """

    method: Method
    model: nn.Module
    log_hash: str
    seed: int


def save_checkpoint(folder: Path, trained: Trained) -> None:
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
    """
    tensors, about = read_tensors(folder / MODEL)
    method = load_method(about["method"], _config(about))
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
