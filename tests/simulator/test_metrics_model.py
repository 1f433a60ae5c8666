"""The published schema: what it says is what the writer writes, and every field is explained."""

import json
from pathlib import Path
from typing import Any

import pytest

from simulator.metrics_model import SCHEMA, Metrics, schema
from tests.simulator.report.conftest import ENTRIES, make_run

ROOT = Path(__file__).parents[2]


def test_the_published_schema_is_that_of_the_models() -> None:
    assert (ROOT / SCHEMA).read_text() == schema(), "write it anew with `make schema`"


def test_every_field_has_a_description_and_a_unit() -> None:
    models: dict[str, Any] = {
        **Metrics.model_json_schema()["$defs"],
        "": Metrics.model_json_schema(),
    }

    for model, about in models.items():
        for name, field in about["properties"].items():
            assert field.get("description"), f"{model}.{name}"
            assert field.get("unit"), f"{model}.{name}"


@pytest.mark.parametrize("complete", [True, False])
def test_what_the_writer_writes_is_what_the_models_say(tmp_path: Path, *, complete: bool) -> None:
    make_run(tmp_path, ENTRIES[:2], count=300, complete=complete)
    text = (tmp_path / "metrics.json").read_text()

    found = Metrics.model_validate_json(text, strict=True)

    told = found.model_dump(by_alias=True, exclude_unset=True)
    assert told == json.loads(text)
