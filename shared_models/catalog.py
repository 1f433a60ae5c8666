"""The methods there are: a folder under ``methods`` with ``config.py`` and ``method.py`` is one.

Nothing is registered; the folder's name is the method's name. Resolving settings imports no torch.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from shared_models.config import MethodConfig, TrunkConfig, TrunkName
from shared_models.contract.errors import BadSetting, UnknownName
from shared_models.contract.features import LogFields
from shared_models.contract.settings import validated

Settings = Mapping[str, Any]


def method_names() -> list[str]:
    """Every method, in alphabetical order."""
    folder = Path(__file__).parent / "methods"
    return sorted(path.parent.name for path in folder.glob("*/method.py"))


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
        BadSetting: a value of a wrong type or without sense.
    """
    if method not in method_names():
        raise UnknownName("method", method, method_names())
    if trunk not in get_args(TrunkName):
        raise UnknownName("trunk", trunk, get_args(TrunkName))
    config = import_module(f"shared_models.methods.{method}.config").Config
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


def load_method(name: str, config: MethodConfig) -> Any:
    """The method itself; imports torch."""
    return import_module(f"shared_models.methods.{name}.method").METHOD(config)
