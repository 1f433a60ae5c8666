"""The reference of ``metrics.json``, from its JSON schema."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from docs.generate.markdown import code, table
from simulator.metrics_model import SCHEMA

_INTRODUCTION: Final = """# Report schema

What `metrics.json` of a run holds, field by field with units. The
[JSON schema](../schema/metrics.schema.json) says the same to programs.
"""
_REFERENCE: Final = "#/$defs/"


def page() -> str:
    """The page."""
    schema = json.loads(SCHEMA.read_text())
    parts = {"metrics.json": schema, **schema["$defs"]}
    return "\n".join([_INTRODUCTION, *(_part(name, part) for name, part in parts.items())])


def _part(name: str, part: Mapping[str, Any]) -> str:
    rows = [
        (code(field), _type(about), about.get("unit", ""), about.get("description", ""))
        for field, about in part.get("properties", {}).items()
    ]
    fields = table(("field", "type", "unit", "what"), rows)
    return f"## {name}\n\n{part.get('description', '')}\n\n{fields}"


def _type(about: Mapping[str, Any]) -> str:
    """A type in words; parts of the schema as links to where they stand on the page."""
    return " or ".join(dict.fromkeys(_types(about)))


def _types(about: Mapping[str, Any]) -> Iterator[str]:
    if "anyOf" in about:
        for each in about["anyOf"]:
            yield from _types(each)
    elif "$ref" in about:
        name = about["$ref"].removeprefix(_REFERENCE)
        yield f"[{name}](#{name.lower()})"
    elif about.get("type") == "array":
        yield f"list of {_type(about['items'])}"
    elif isinstance(about.get("additionalProperties"), dict):
        yield f"by name: {_type(about['additionalProperties'])}"
    elif "const" in about:
        yield code(about["const"])
    else:
        yield about.get("type", "anything")
