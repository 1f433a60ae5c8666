"""From the options of a verb to the log that it is about."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shared_models.catalog import table_format
from shared_models.contract.errors import BadSetting
from shared_models.logs.prepare import Columns, open_or_prepare, open_or_prepare_tables
from shared_models.logs.prepared import PreparedLog


@dataclass(frozen=True, slots=True)
class Origin:
    """Where events come from: a log, or tables of the format ``form``.

    Attributes:
        log: a known one, a file, or a prepared log's folder.
        tables: of several, the last one is the test part.
        shifted: whether sequences of tables add 1 to every id.
        split: of a log.
        columns: of a log's user, item and time.
        form: of the tables.
    """

    log: str | None
    tables: list[Path]
    shifted: bool
    split: str | None
    columns: tuple[str | None, str | None, str | None]
    form: str | None = None

    def refuse_log(self, option: str) -> None:
        """What ``option`` brings leaves no room for a log.

        Raises:
            BadSetting: one was named.
        """
        if any(given is not None for given in (self.log, self.split, *self.columns)):
            raise BadSetting(option, "brings its events and its cut: no --log, --split or --*-col")

    def prepared(self) -> PreparedLog:
        """The prepared log of either.

        Raises:
            InputError: it cannot be used; the message says why and what to do.
        """
        if self.form is not None:
            return open_or_prepare_tables(self.tables, self.form, shifted=self.shifted)
        return open_or_prepare(str(self.log), Columns(*self.columns), self.split or "user-tail")


def origin_of(
    method: str, settings: Mapping[str, Any], prefix: Path | None, given: Origin
) -> Origin:
    """``given`` with its format; graphs of originals need a method for them.

    Raises:
        BadSetting: what was given does not go together.
    """
    form = table_format(method, settings) if given.tables else None
    if prefix or (given.tables and form is None):
        option = "table" if given.tables else "prefix"
        raise BadSetting(option, f"{method} has no such format: give --log")
    if form is not None:
        given.refuse_log("table")
    if form is None and given.log is None:
        raise BadSetting("log", "name one: movielens-100k, synthetic, or a file")
    if form is None and given.shifted:
        raise BadSetting("shifted-sequences", "is said of a table: give --table")
    return replace(given, form=form)
