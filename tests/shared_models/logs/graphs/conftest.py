"""A graph of six nodes on disk, as the original's files have it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Change = Callable[[dict[str, Any]], None]


def files() -> dict[str, Any]:
    """The path a-b-c-d, e beside it, and f whom nobody labelled."""
    nodes = [
        {"id": node, "val": node == "c", "test": node in "de"} for node in ("a", "b", "c", "d", "e")
    ]
    nodes.append({"id": "f", "val": False, "test": False})
    ends = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "c"), ("a", "a")]
    return {
        "G": {"nodes": nodes, "links": [{"source": s, "target": t} for s, t in ends]},
        "id_map": {"a": 5, "b": 4, "c": 3, "d": 2, "e": 1, "f": 0},
        "class_map": {"a": [1, 0], "b": [0, 1], "c": [1, 0], "d": [0, 1], "e": [1, 0], "f": [0, 0]},
        "feats": np.arange(18, dtype=np.float32).reshape(6, 3),
    }


def put(told: Mapping[str, Any], folder: Path) -> Path:
    """Write the files; gives their prefix."""
    for name, content in told.items():
        if name == "feats":
            np.save(folder / "small-feats.npy", content)
        else:
            (folder / f"small-{name}.json").write_text(json.dumps(content))
    return folder / "small"


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    return put(files(), tmp_path)
