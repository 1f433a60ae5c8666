"""What users did, out of rows that each repeat the user's history.

A row says what its user had taken when the row's item was shown. The next row of the user repeats
most of that; what it adds is what the user took in between. So behind what is known of a user, be
it from histories or from rows with label 1, only that part of the next history is added which the
end of what is known does not overlap, by the longest overlap there is. Whatever the rows are, what
is known of a user before a row ends with the row's own history, item by item.

Time is made of the order of rows: the r-th row of all tables (from 1) happens at second r, and what
its user took before it, but after the rows before, at equal distances within the second before.
When a user really took it, and after which rows of others, is not in the file; nor is what was
shown together: rows that follow each other directly, of one user with one history, are one request.
"""

from dataclasses import dataclass, field
from typing import Final

import polars as pl

SCHEMA: Final = {
    "user": pl.Int64,
    "item": pl.Int64,
    "at": pl.Float64,
    "label": pl.Int64,
    "request": pl.Int64,
    "row": pl.Int64,
}
Event = tuple[int, int, float, int, int | None, int]


@dataclass(slots=True)
class Lives:
    """What is known of users so far, row by row.

    Attributes:
        longest: items of a history, at most.
        of_row: exposures of each row; they are one request.
        shown: rows so far, in all tables.
    """

    longest: int
    of_row: int = 1
    shown: int = 0
    _known: dict[int, list[int]] = field(default_factory=dict)
    _last: tuple[int, list[int], int] | None = None

    def add(self, rows: pl.DataFrame, first: int) -> pl.DataFrame:
        """The events that the next rows of a table add.

        Args:
            rows: ``user``, ``item``, ``label`` and ``history``, and ``prior`` if there is one.
            first: the place of the first of them in its table, from 1. A table begins at 1, and
                no request goes on from one table to the next.

        Returns:
            ``user``, ``item``, ``at``, ``label``, ``request`` (null: mere behaviour) and ``row`` of
            the table (0: mere behaviour), in order of time; ``prior``, where it was given.
        """
        if first == 1:
            self._last = None
        events: list[Event] = []
        columns = (rows[name].to_list() for name in ("user", "item", "label", "history"))
        for place, (user, item, label, history) in enumerate(zip(*columns, strict=True)):
            if place % self.of_row == 0:
                self.shown += 1
            request = self._request(user, history, events)
            number = first + place // self.of_row
            events.append((user, item, float(self.shown), label, request, number))
            if label and self.of_row == 1:
                self._know(user, [item])
        told = pl.DataFrame(events, SCHEMA, orient="row")
        if "prior" not in rows.columns:
            return told
        prior = rows.select("prior", row=pl.int_range(first, first + pl.len(), dtype=pl.Int64))
        return told.join(prior, on="row", how="left", maintain_order="left")

    def _request(self, user: int, history: list[int], events: list[Event]) -> int:
        """The request of the next row, after whatever its user took before that."""
        if self._last is not None and self._last[:2] == (user, history):
            return self._last[2]
        known = self._known.get(user, [])
        added = history[overlap(known, history) :]
        for place, item in enumerate(added, 1):
            at = self.shown - 1 + place / (len(added) + 1)
            events.append((user, item, at, 1, None, 0))
        self._know(user, added)
        self._last = user, history, self.shown
        return self.shown

    def _know(self, user: int, items: list[int]) -> None:
        self._known[user] = (self._known.get(user, []) + items)[-self.longest :]


def overlap(known: list[int], history: list[int]) -> int:
    """How many items of the end of ``known`` are the beginning of ``history``, at most."""
    for size in range(min(len(known), len(history)), 0, -1):
        if known[-size] == history[0] and known[-size:] == history[:size]:
            return size
    return 0
