"""How a scenario comes together: from a file, from options, from ``--set path.to.setting=value``.

What comes later wins, leaf by leaf. Every complaint names the setting's path.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from shared_models.contract.errors import BadSetting, InputError, PathMissing, UnknownName
from shared_models.contract.settings import parse_settings
from simulator.entries import Entry, read_entry
from simulator.scenario import Scenario, Tree

_OWN_REPLAY: Final = ("replay.round_events", "replay.retrain")
"""Of how the log is played, what may differ between entries: what is ranked must be the same."""


def compose(
    file: Path | None, options: Mapping[str, Any], assignments: Sequence[str] = ()
) -> Scenario:
    """The scenario of ``file``, changed by ``options``, changed by ``path=value`` assignments.

    Raises:
        PathMissing: there is no such file.
        UnknownName: a setting that does not exist; the message offers the nearest one.
        BadSetting: a value of a wrong type or without sense.
    """
    layers = (_read(file) if file else {}, options, parse_settings(assignments))
    fields = _with_method_sections(reduce(_merged, map(_long_form, layers)))
    try:
        return Scenario.model_validate(fields)
    except ValidationError as error:
        raise _explained(error, [*_paths(Scenario), *_methods(fields)]) from error


def narrowed(scenario: Scenario, entry: Entry) -> Scenario:
    """``scenario`` for one entry alone, with the settings that it brings.

    Raises:
        UnknownName: a setting that does not exist, or that all entries of a run share.
        BadSetting: a value of a wrong type or without sense.
    """
    given = _long_form(parse_settings(entry.assignments))
    own = ("trunk", "train", "device", "cloud", "replay", entry.method)
    replay = given.get("replay")
    named = replay if isinstance(replay, Mapping) else ()
    shared = {f"replay.{name}" for name in named} - set(_OWN_REPLAY)
    for section in [*given, *sorted(shared)]:
        if section not in own:
            known = [*own[:4], *_OWN_REPLAY, entry.method]
            raise UnknownName(f"setting of the entry {entry.label!r}", section, known)
    fields = scenario.model_dump(exclude={"methods", "against", "settings"})
    method = {"methods": [entry.method], "settings": {}}
    if entry.method in scenario.settings:
        method["settings"] = {entry.method: scenario.settings[entry.method]}
    merged = _with_method_sections(_merged({**fields, **method}, given))
    try:
        return Scenario.model_validate(merged)
    except ValidationError as error:
        raise _explained(error, [*_paths(Scenario), entry.method]) from error


def _explained(error: ValidationError, known: Sequence[str]) -> InputError:
    first = error.errors()[0]
    path = ".".join(map(str, first["loc"])) or "scenario"
    if first["type"] == "extra_forbidden":
        return UnknownName("setting", path, known)
    problem = first["msg"].replace("Input should be", "expected").removeprefix("Value error, ")
    # What is wrong with the whole is not told by the whole.
    got = f", got {first['input']!r}" if first["loc"] else ""
    return BadSetting(path, f"{problem}{got}")


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads ``1e-3`` as a number, which YAML 1.1 does not, and dates as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: str(node.value))


def _read(file: Path) -> Tree:
    if not file.is_file():
        raise PathMissing(file, "scenario file")
    try:
        fields = yaml.load(file.read_text(), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSetting(str(file), "not a YAML file") from error
    if not isinstance(fields, dict):
        raise BadSetting(str(file), "expected lines of `name: value`")
    return fields


def _long_form(fields: Mapping[str, Any]) -> Tree:
    """``trunk: din``, ``methods: duet``, ``seeds: 1``, ``links: 4g`` as what they are short for."""
    full = dict(fields)
    if isinstance(full.get("trunk"), str):
        full["trunk"] = {"name": full["trunk"]}
    for name in ("methods", "against", "seeds", "links"):
        if isinstance(full.get(name), str | int):
            full[name] = [full[name]]
    return full


def _with_method_sections(fields: Mapping[str, Any]) -> Tree:
    """``duet: {...}`` moved to where a scenario keeps it, below ``settings``."""
    own = {name: fields[name] for name in _methods(fields) if name in fields}
    rest = {name: value for name, value in fields.items() if name not in own}
    return _merged(rest, {"settings": own}) if own else rest


def _methods(fields: Mapping[str, Any]) -> list[str]:
    methods = fields.get("methods", Scenario.model_fields["methods"].default)
    if not isinstance(methods, Sequence):
        return []
    texts = [text for text in methods if isinstance(text, str)]
    return list(dict.fromkeys(read_entry(text).method for text in texts))


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """``under`` with every leaf of ``over`` put in its place."""
    result = dict(under)
    for name, value in over.items():
        below = result.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            result[name] = _merged(below, value)
        else:
            result[name] = value
    return result


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, f"{prefix}{name}.")
