"""From tables of a method's original to a source that the whole system trains on and replays."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl

from shared_models.logs.source import Source
from shared_models.logs.tables.cigar import CIGAR, CIGAR_SHIFTED
from shared_models.logs.tables.ecrec import ECREC
from shared_models.logs.tables.format import Format, Parsed
from shared_models.logs.tables.lines import read_lines
from shared_models.logs.tables.lives import Lives
from shared_models.logs.tables.pinrec import PINREC

FORMATS: Final[Mapping[str, Format]] = {
    "ecrec": ECREC,
    "cigar": CIGAR,
    "cigar-shifted": CIGAR_SHIFTED,
    "pinrec": PINREC,
}
"""By name; those of ``-shifted`` have 1 added to every id in sequences."""


def read_tables(paths: Sequence[Path], form: Format) -> Source:
    """Read one table, which is cut by its rows, or several, of which the last one is the test.

    Args:
        paths: tables of one format, in order of time.
        form: of their lines.

    Raises:
        PathMissing, BadLog, BadValue, TooSmall: one cannot be used; no row is ever skipped.
    """
    lives, features = Lives(form.longest), _Features()
    tables: list[pl.DataFrame] = []
    sizes: list[int] = []
    for path in paths:
        tables += [lives.add(rows, first) for rows, first in _rows(path, form, features)]
        sizes.append(lives.shown - sum(sizes))
    events = pl.concat(tables).with_columns(part=_part(sizes))
    return Source(paths[0].stem, events, features.of_items(), features.of_users())


@dataclass(slots=True)
class _Features:
    """What tables tell of items and users, block after block."""

    targets: list[pl.DataFrame] = field(default_factory=list)
    taken: list[pl.DataFrame] = field(default_factory=list)
    users: list[pl.DataFrame] = field(default_factory=list)

    def add(self, parsed: Parsed) -> None:
        """Keep what a block tells, each thing once."""
        self.targets.append(parsed.targets.unique(maintain_order=True))
        self.taken.append(parsed.taken)
        if parsed.users is not None:
            self.users.append(parsed.users.unique(maintain_order=True))

    def of_items(self) -> pl.DataFrame:
        """``raw`` and features."""
        return _first_told(pl.concat(self.targets + self.taken), "item")

    def of_users(self) -> pl.DataFrame | None:
        """``raw`` and features, if there are any."""
        return _first_told(pl.concat(self.users), "user") if self.users else None


def _rows(path: Path, form: Format, features: _Features) -> Iterator[tuple[pl.DataFrame, int]]:
    """The rows of a table, a block at a time, with the place of the first one of each block."""
    first = 1
    for text in read_lines(path, form.layout):
        parsed = form.parse(text)
        features.add(parsed)
        yield parsed.rows, first
        first += len(text)


def _first_told(told: pl.DataFrame, name: str) -> pl.DataFrame:
    """One row for each item or user: of every feature, the first value that is known."""
    firsts = told.group_by(name, maintain_order=True).agg(pl.all().drop_nulls().first())
    return firsts.rename({name: "raw"}).with_columns(pl.col("raw").cast(pl.String))


def _part(sizes: Sequence[int]) -> pl.Expr:
    """0 (train), 1 (validation) or 2 (test), by the row that an event belongs to."""
    if len(sizes) == 1:
        first, last = sizes[0] * 7 // 10, sizes[0] * 8 // 10
    else:
        last = sum(sizes[:-1])
        first = last - last // 10
    row = pl.col("at").ceil()
    return pl.when(row > last).then(2).when(row > first).then(1).otherwise(0)
