"""What must hold in the rows of a table, over columns of text; each rule names what breaks it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

_NUMBER: Final = "[0-9]{1,18}"
_LONGEST: Final = 40


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        column: whom the blame falls on.
        broken: true where a row breaks it.
        told: what was expected and what was found, from the cells of such a row.
    """

    column: str
    broken: pl.Expr
    told: Callable[[Mapping[str, str]], str]


def number(column: str) -> Rule:
    """A whole number, at least 0."""
    expected = "expected a whole number of at least 0"
    return _matching(column, f"^{_NUMBER}$", expected)


def number_above_0(column: str) -> Rule:
    """An id where 0 is padding."""
    return _matching(column, "^0{0,17}[1-9][0-9]{0,17}$", "expected a whole number of at least 1")


def binary(column: str) -> Rule:
    """0 or 1."""
    return _matching(column, "^[01]$", "expected 0 or 1")


def below(column: str, count: int) -> Rule:
    """One of ``count`` classes, from 0."""
    return _matching(column, f"^[0-{count - 1}]$", f"expected a class from 0 to {count - 1}")


def probability(column: str) -> Rule:
    """From 0 to 1, as a decimal number."""
    found = pl.col(column).cast(pl.Float64, strict=False)
    expected = "expected a probability from 0 to 1"
    return Rule(
        column,
        ~found.is_between(0, 1).fill_null(value=False),
        lambda cells: f"{expected}, found {_short(cells[column])}",
    )


def number_if_any(column: str) -> Rule:
    """A whole number, below 0 too, or nothing."""
    return _matching(column, f"^(?:-?{_NUMBER})?$", "expected a whole number or nothing")


def hexadecimal_if_any(column: str) -> Rule:
    """At most 8 hexadecimal digits, or nothing."""
    expected = "expected at most 8 hexadecimal digits or nothing"
    return _matching(column, "^[0-9a-fA-F]{0,8}$", expected)


def id_list(column: str) -> Rule:
    """Ids separated by commas; nothing at all is an empty list."""

    def told(cells: Mapping[str, str]) -> str:
        ids = cells[column].split(",")
        place = next(n for n, each in enumerate(ids) if not re.fullmatch(_NUMBER, each))
        expected = "expected whole numbers of at least 0, separated by commas"
        return f"{expected}; number {place + 1} of the list is {_short(ids[place])}"

    pattern = f"^(?:{_NUMBER}(?:,{_NUMBER})*)?$"
    return Rule(column, ~pl.col(column).str.contains(pattern), told)


def as_many(column: str, other: str) -> Rule:
    """Two lists of the same length."""

    def told(cells: Mapping[str, str]) -> str:
        wanted, found = (_length(cells[name]) for name in (other, column))
        return f"expected as many ids as in {other}, {wanted}; found {found}"

    return Rule(column, _lengths(column) != _lengths(other), told)


def counts(column: str, ids: str, most: int) -> Rule:
    """The number of ids of a list that are no padding; or ``most``, where there are more."""
    found = pl.col(ids).str.count_matches("[1-9][0-9]*").cast(pl.Int64)
    said = pl.col(column).cast(pl.Int64, strict=False)

    def told(cells: Mapping[str, str]) -> str:
        real = sum(each.strip("0") != "" for each in cells[ids].split(","))
        return f"expected the number of ids in {ids}, {real}; found {_short(cells[column])}"

    right = (said == found) | ((said == most) & (found > most))
    return Rule(column, ~right.fill_null(value=True), told)


def _matching(column: str, pattern: str, expected: str) -> Rule:
    def told(cells: Mapping[str, str]) -> str:
        return f"{expected}, found {_short(cells[column])}"

    return Rule(column, ~pl.col(column).str.contains(pattern), told)


def _lengths(column: str) -> pl.Expr:
    text = pl.col(column)
    return pl.when(text == "").then(0).otherwise(text.str.count_matches(",", literal=True) + 1)


def _length(cell: str) -> int:
    return cell.count(",") + 1 if cell else 0


def _short(cell: str) -> str:
    return repr(cell if len(cell) <= _LONGEST else f"{cell[:_LONGEST]}...")
