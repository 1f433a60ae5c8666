"""Settings as people write them: ``--set path.to.setting=value``."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    PositiveInt,
    ValidationError,
)

from shared_models.contract.errors import BadSetting, UnknownName

M = TypeVar("M", bound=BaseModel)


def _sizes(sizes: object) -> object:
    """``"13-512-64"`` as (13, 512, 64); anything else as it is."""
    if isinstance(sizes, int):  # a size that stands alone, which JSON takes for a number
        return (sizes,)
    if not isinstance(sizes, str):
        return sizes
    if not re.fullmatch(r"[0-9]+(-[0-9]+)*", sizes):
        raise ValueError("expected sizes as in 13-512-256-64-16")
    return tuple(int(size) for size in sizes.split("-"))


Sizes = Annotated[
    tuple[PositiveInt, ...],
    BeforeValidator(_sizes),
    PlainSerializer(lambda sizes: "-".join(map(str, sizes)), return_type=str),
    Field(min_length=1),
]
"""Widths of layers, or rows of tables, written ``13-512-256-64-16``."""


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """``["duet.max_lag=0", "train.epochs=1"]`` as ``{"duet": {"max_lag": 0}, ...}``.

    A value is read as JSON where it is JSON, and as text elsewhere.

    Raises:
        BadSetting: a pair without ``=``, or a path that runs through a value.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        if not equals or not path:
            raise BadSetting(pair, "write path.to.setting=value")
        *sections, name = path.split(".")
        place = settings
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise BadSetting(path, f"{section!r} has a value already")
        place[name] = _scalar(text)
    return settings


def validated(model: type[M], section: str, fields: Mapping[str, Any]) -> M:
    """``model(**fields)``, with pydantic's first complaint as an error of ours.

    Raises:
        UnknownName: a field that ``model`` does not have.
        BadSetting: a value of a wrong type or without sense.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(part for part in (section, *map(str, first["loc"])) if part)
        if first["type"] == "extra_forbidden":
            known = [f"{section}.{name}".lstrip(".") for name in model.model_fields]
            raise UnknownName("setting", path, known) from error
        problem = first["msg"].removeprefix("Value error, ")
        raise BadSetting(path, f"{problem}, got {first['input']!r}") from error


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
