"""Tables of ECRec's original: a target, a long sequence and a short one, with categories."""

from typing import Final

import polars as pl

from shared_models.logs.tables import rules
from shared_models.logs.tables.format import LONGEST, Format, Parsed, named, newest, together
from shared_models.logs.tables.lines import Layout

_LONG, _SHORT = ("item_seq", "cate_seq"), ("edge_item_seq", "edge_cate_seq")
_NAMES: Final = ("user_id", "item_id", "cate_id", "label", *_LONG, *_SHORT, "seq_len")
_LAYOUT: Final = Layout(
    width=9,
    names=dict(enumerate(_NAMES, 1)),
    rules=(
        rules.number("user_id"),
        rules.number_above_0("item_id"),
        rules.number("cate_id"),
        rules.binary("label"),
        rules.id_list("item_seq"),
        rules.id_list("cate_seq"),
        rules.as_many("cate_seq", "item_seq"),
        rules.id_list("edge_item_seq"),
        rules.id_list("edge_cate_seq"),
        rules.as_many("edge_cate_seq", "edge_item_seq"),
        rules.number("seq_len"),
        rules.counts("seq_len", "item_seq", LONGEST),
    ),
)


def _parse(text: pl.DataFrame) -> Parsed:
    numbers = text.select(
        pl.col("user_id", "item_id", "cate_id", "label").cast(pl.Int64),
        long=newest("item_seq"),
        short=newest("edge_item_seq"),
    )
    rows = numbers.select("label", user="user_id", item="item_id", history=_history())
    targets = numbers.select(item="item_id", cate=pl.col("cate_id").replace(0, None))
    taken = [together(text, item=item, cate=cate) for item, cate in (_LONG, _SHORT)]
    return Parsed(rows, targets.with_columns(named("cate")), _named(pl.concat(taken)))


def _history() -> pl.Expr:
    """The long sequence, then the short one, unless the long one ends with it."""
    long, short = pl.col("long"), pl.col("short")
    ends = long.list.tail(short.list.len()) == short
    return pl.when(ends).then(long).otherwise(pl.concat_list(long, short))


def _named(pairs: pl.DataFrame) -> pl.DataFrame:
    return pairs.with_columns(named("cate"))


ECREC: Final = Format(_LAYOUT, 2 * LONGEST, _parse)
