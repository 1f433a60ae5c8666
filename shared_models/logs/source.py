"""What a source hands over, and how raw events become numbered ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from shared_models.contract.errors import TooSmall


@dataclass(frozen=True, slots=True)
class Source:
    """Raw events and features, before any split.

    Attributes:
        name: of the log.
        events: ``user``, ``item`` (any type), ``at`` (float64 seconds), in the file's order; for
            labelled exposures also ``label`` and ``request``, which is at least 0, or null for
            behaviour: an item that the user took without having been shown any; where it is known,
            ``prior``, the logit that a ranker in the cloud gave; for tables also ``part``, 0 to 2,
            and ``row``, both as `cut` and `prepared` have them.
        items: ``raw`` (text) and item features, or None.
        users: ``raw`` (text) and user features, or None.
        truth: what is known of a synthetic world.
    """

    name: str
    events: pl.DataFrame
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    truth: Mapping[str, float] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """``labelled-exposures`` where events carry labels."""
        return "labelled-exposures" if "label" in self.events.columns else "next-item"


def numbered(source: Source) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Events with dense numbers in order of (user, seq), and the tables ``items`` and ``users``.

    Raw ids are numbered in their own order, items from 1. Events of a user are ordered by time,
    those of the same second as in the file.

    Raises:
        TooSmall: there are no events, or fewer than two items.
    """
    events = source.events
    if events.is_empty():
        raise TooSmall(f"{source.name}: the log is empty")
    items, users = _table(events["item"], "item", 1), _table(events["user"], "user", 0)
    if len(items) < 2:
        raise TooSmall(f"{source.name}: one item only, {items['raw'][0]!r}: nothing to rank")
    known = ("label", "request", "prior", "part", "row")
    extra = [name for name in known if name in events.columns]
    dense = (
        events.with_columns(pl.col("user", "item").cast(pl.String))
        .join(users.rename({"user": "u", "raw": "user"}), on="user", maintain_order="left")
        .join(items.rename({"item": "i", "raw": "item"}), on="item", maintain_order="left")
        .select("at", *extra, user="u", item="i")
        .sort("user", "at", maintain_order=True)
        .with_columns(seq=pl.int_range(pl.len(), dtype=pl.Int32).over("user"))
    )
    if extra:
        dense = dense.with_columns(
            pl.col("label").cast(pl.Float32),
            *([pl.col("prior").cast(pl.Float32)] if "prior" in extra else []),
            # Each on its own: what is grouped by request must not throw behaviour together.
            pl.coalesce(pl.col("request").cast(pl.Int64), -1 - pl.col("seq").cast(pl.Int64)),
        )
    tables = {
        "items": _with_features(items, source.items),
        "users": _with_features(users, source.users),
    }
    return dense.select("user", "item", "at", "seq", *extra), tables


def _table(raw: pl.Series, name: str, first: int) -> pl.DataFrame:
    unique = raw.unique().sort().cast(pl.String)
    numbers = pl.int_range(first, first + len(unique), dtype=pl.Int32, eager=True)
    return pl.DataFrame({name: numbers, "raw": unique})


def _with_features(table: pl.DataFrame, features: pl.DataFrame | None) -> pl.DataFrame:
    return (
        table
        if features is None
        else table.join(features, on="raw", how="left", maintain_order="left")
    )
