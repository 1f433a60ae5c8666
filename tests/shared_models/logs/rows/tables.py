"""Rows in Criteo's format, as text."""

from collections.abc import Sequence
from pathlib import Path

_COUNTS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13"]


def criteo_row(
    label: str = "0",
    counts: Sequence[str] = _COUNTS,
    categories: Sequence[str] = ("68fd1e64",) * 26,
) -> str:
    return "\t".join([label, *counts, *categories])


def write_rows_table(folder: Path, lines: Sequence[str], name: str = "criteo.txt") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path
