"""Separated lines as columns of text, a block at a time, so that tables may exceed memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from shared_models.contract.errors import BadLog, BadValue, PathMissing, TooSmall
from shared_models.logs.tables.rules import Rule

_BLOCK: Final = 16 << 20
_SEPARATORS: Final = {"\t": "tabs", ";": "semicolons"}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the lines of a table are made.

    Attributes:
        width: columns of every line.
        names: of the columns that are read, by place from 1; no others are looked at.
        rules: what must hold in every row.
        separator: of columns, a tab or a semicolon.
    """

    width: int
    names: Mapping[int, str]
    rules: Sequence[Rule]
    separator: str = "\t"

    def column(self, name: str) -> str:
        """As people are told of it: ``4 (label)``."""
        (place,) = (place for place, known in self.names.items() if known == name)
        return f"{place} ({name})"


def read_lines(path: Path, layout: Layout, block: int = _BLOCK) -> Iterator[pl.DataFrame]:
    """The checked rows of a table, in order, as columns of text.

    Args:
        path: the table, UTF-8, without a header.
        layout: of its lines.
        block: bytes, roughly, that are read together.

    Raises:
        PathMissing, BadLog, BadValue, TooSmall: it cannot be used; the message names the file, the
            row and the column (both from 1), what was expected and what was found.
    """
    if not path.is_file():
        raise PathMissing(path)
    row = 1
    with path.open("rb") as file:
        while content := file.read(block) + file.readline():
            lines = _decoded(path, row, content)
            yield _checked(path, row, _cells(path, row, lines, layout), layout)
            row += len(lines)
    if row == 1:
        raise TooSmall(f"{path}: the file is empty")


def _decoded(path: Path, row: int, content: bytes) -> list[str]:
    """Lines without their ends; nothing else is stripped, since empty cells count."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        row += content.count(b"\n", 0, error.start)
        raise BadLog(f"{path}: row {row}: not UTF-8 text") from error
    return text.removesuffix("\n").split("\n")


def _cells(path: Path, row: int, lines: list[str], layout: Layout) -> pl.DataFrame:
    cells = pl.Series("cells", lines).str.strip_suffix("\r").str.split(layout.separator)
    wrong = (cells.list.len() != layout.width).arg_true()
    if len(wrong):
        found = len(cells[wrong[0]])
        raise BadLog(
            f"{path}: row {row + wrong[0]}: expected {layout.width} columns separated by "
            f"{_SEPARATORS[layout.separator]}, found {found}"
        )
    named = {name: pl.col("cells").list.get(place - 1) for place, name in layout.names.items()}
    return cells.to_frame().select(**named)


def _checked(path: Path, row: int, frame: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """``frame`` itself, or a complaint about its first bad row."""
    broken = frame.select(rule.broken.alias(str(n)) for n, rule in enumerate(layout.rules))
    first = {n: found[0] for n, wrong in enumerate(broken) if len(found := wrong.arg_true())}
    if first:
        number = min(first, key=lambda n: (first[n], n))
        rule, place = layout.rules[number], first[number]
        told = rule.told(frame.row(place, named=True))
        raise BadValue(path, row + place, layout.column(rule.column), told)
    return frame
