"""The methods there are: a folder under ``methods`` with ``config.py`` and ``method.py`` is one.

Nothing is registered; the folder's name is the method's name. Resolving settings imports no torch.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from shared_models.config import AnyConfig, MethodConfig, NodeConfig, TrunkConfig, TrunkName
from shared_models.contract.errors import BadSetting, UnknownName
from shared_models.contract.features import LogFields
from shared_models.contract.manifest import Task
from shared_models.contract.nodes import NodeSpec
from shared_models.contract.settings import validated

Settings = Mapping[str, Any]


def method_names(task: Task | None = None) -> list[str]:
    """Every method, or those for a task, in alphabetical order."""
    folder = Path(__file__).parent / "methods"
    names = sorted(path.parent.name for path in folder.glob("*/method.py"))
    return [name for name in names if task in (None, _config(name).task)]


def task_of(method: str) -> Task:
    """What devices do with a bundle of ``method``.

    Raises:
        UnknownName: no such method.
    """
    if method not in method_names():
        raise UnknownName("method", method, method_names())
    task: Task = _config(method).task
    return task


def resolve_nodes(method: str, nodes: NodeSpec, settings: Settings) -> NodeConfig:
    """The full configuration of a run on a graph.

    Args:
        method: folder name.
        nodes: of the graph.
        settings: by section, as for `resolve`.

    Raises:
        UnknownName: no such method or setting.
        BadSetting: a value of a wrong type or without sense, or a method for another task.
    """
    if task_of(method) is not Task.NODE_CLASSIFICATION:
        raise BadSetting("method", f"{method} ranks items and reads no graph: give --log")
    own = {**settings.get(method, {}), "nodes": nodes}
    resolved: NodeConfig = validated(_config(method), method, own)
    return resolved


def resolve(
    method: str,
    items: int,
    trunk: str,
    settings: Settings,
    fields: LogFields | None = None,
) -> MethodConfig:
    """The full configuration of a run.

    Args:
        method: folder name.
        items: V of the log.
        trunk: name of the backbone.
        settings: by section: ``{"trunk": {"width": 64}, "duet": {"max_lag": 0}, ...}``; the
            sections of other methods are left to them. ``window`` in a method's section is the
            scorer's.
        fields: of the log; methods take those that they read.

    Raises:
        UnknownName: no such method, trunk or setting.
        BadSetting: a value of a wrong type or without sense, or a method for another task.
    """
    if task_of(method) is not Task.RANKING:
        raise BadSetting("method", f"{method} classifies the nodes of a graph: give --prefix")
    if trunk not in get_args(TrunkName):
        raise UnknownName("trunk", trunk, get_args(TrunkName))
    config = _config(method)
    own = dict(settings.get(method, {}))
    reads = bool(own.get("fields", config.model_fields["fields"].default))
    features = {
        "items": items,
        **({"window": own.pop("window")} if "window" in own else {}),
        **({"item_fields": fields.items} if fields and reads else {}),
        **({"profile": fields.users} if fields and reads and config.reads_profile else {}),
    }
    trunk_fields = {"name": trunk, **settings.get("trunk", {})}
    validated(TrunkConfig, "trunk", trunk_fields)
    resolved: MethodConfig = validated(
        config, method, {**own, "features": features, "trunk": trunk_fields}
    )
    return resolved


def table_format(method: str, settings: Settings) -> str | None:
    """The name of the tables that the original of ``method`` reads, where we read them too.

    It is ``TABLE`` in the method's ``config.py``, or one of ``TABLES`` there, by the setting
    ``part``: names of formats are of `shared_models.logs`.

    Raises:
        BadSetting: there are several, and the setting does not say which.
    """
    config = import_module(f"shared_models.methods.{method}.config")
    tables = getattr(config, "TABLES", None)
    if tables is None:
        return getattr(config, "TABLE", None)
    part = settings.get(method, {}).get("part")
    if part not in tables:
        raise BadSetting(f"{method}.part", f"say which table it is: {', '.join(tables)}")
    return str(tables[part])


def rows_config(method: str) -> type[BaseModel] | None:
    """What sets the network of ``method`` over rows that are no log; None where it has none.

    It is ``ROWS`` in the method's ``config.py``.

    Raises:
        UnknownName: no such method.
    """
    if method not in method_names():
        raise UnknownName("method", method, method_names())
    config = import_module(f"shared_models.methods.{method}.config")
    return getattr(config, "ROWS", None)


def load_rows(name: str, config: BaseModel) -> Any:
    """What learns from rows that are no log; imports torch."""
    return import_module(f"shared_models.methods.{name}.rows").ROWS(config)


def _config(method: str) -> Any:
    """The class of a method's settings."""
    return import_module(f"shared_models.methods.{method}.config").Config


def load_method(name: str, config: AnyConfig) -> Any:
    """The method itself; imports torch."""
    return import_module(f"shared_models.methods.{name}.method").METHOD(config)
