"""The reference of settings, from the models that check them."""

import json
from collections.abc import Iterator
from importlib import import_module
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from cloud_server.recipe import NodeTrainSettings, TrainSettings
from cloud_server.rows.settings import RowsTraining
from cloud_server.settings import ServeSettings
from device_client.settings import DeviceSettings
from docs.generate.markdown import code, plain, table
from shared_models.catalog import method_names
from shared_models.config import MethodConfig, TrunkConfig
from simulator.graphs.scenario import GraphScenario
from simulator.scenario import Scenario

_INTRODUCTION: Final = """# Settings

A setting has a path. `--set duet.max_lag=0` sets it on the command line, a scenario file
(`concerto run --scenario FILE`) holds the same tree as YAML, and an entry of a run has its own in
brackets: `"duet[duet.max_lag=0]"`. A value is read as JSON where it is JSON, and as text elsewhere.
A wrong name or value ends the command with exit code 2 before anything is done; the message offers
the nearest name.
"""
_SECTIONS: Final[tuple[tuple[str, str, type[BaseModel]], ...]] = (
    ("A scenario", "", Scenario),
    ("A scenario on a graph", "", GraphScenario),
    ("Training", "train", TrainSettings),
    ("Training on graphs", "train", NodeTrainSettings),
    ("Training on rows", "train", RowsTraining),
    ("The trunk", "trunk", TrunkConfig),
    ("Devices", "device", DeviceSettings),
    ("The serving cloud", "cloud", ServeSettings),
)
_METHODS: Final = """## Methods

What each one is for stands on a page of [its own](../choose.md). All that rank items have
`uploads`, `fields` and `window` too.
"""
_SHARED: Final = {*MethodConfig.model_fields, "nodes"}
_WORDS: Final = {
    "int": "whole number",
    "float": "number",
    "bool": "true, false",
    "str": "text",
    "Path": "path",
    "dict": "settings",
    "Mapping": "settings",
}


def page() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    parts += [_section(f"## {title}", path, model) for title, path, model in _SECTIONS]
    parts.append(_METHODS)
    for name in method_names():
        config = import_module(f"shared_models.methods.{name}.config").Config
        parts.append(_section(f"### {name}", name, config, left_out=_SHARED))
    return "\n".join(parts)


def _section(
    heading: str,
    path: str,
    model: type[BaseModel],
    left_out: frozenset[str] | set[str] = frozenset(),
) -> str:
    rows = list(_rows(model, f"{path}." if path else "", left_out))
    shown = table(("setting", "values", "default", "what"), rows) if rows else "It has none.\n"
    return f"{heading}\n\n{plain(model.__doc__ or '')}\n\n{shown}"


def _rows(
    model: type[BaseModel], path: str, left_out: frozenset[str] | set[str] = frozenset()
) -> Iterator[tuple[str, str, str, str]]:
    """A row for each setting, those of parts under their whole path."""
    for name, field in model.model_fields.items():
        part = _part(field.annotation)
        if name in left_out:
            continue
        if part is None:
            about = field.description or ""
            yield code(path + name), _values(field.annotation), _default(field), about
        else:
            yield from _rows(part, f"{path}{name}.")


def _part(annotation: Any) -> type[BaseModel] | None:
    """The model that a setting holds, where it holds one, or may."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _values(annotation: Any) -> str:
    """What may be said, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(code(value) for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_values(each) for each in arguments if each is not type(None))
    if origin in (tuple, list):
        return f"list ({_values(arguments[0])})"
    if hasattr(annotation, "__members__"):
        return ", ".join(code(member.value) for member in annotation)
    kind = getattr(origin or annotation, "__name__", "")
    return _WORDS.get(kind, _values(arguments[0]) if arguments else kind)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be said"
    if field.default is PydanticUndefined or field.default is None:
        return ""
    value = to_jsonable_python(field.default)
    return code(value if isinstance(value, str) else json.dumps(value))
