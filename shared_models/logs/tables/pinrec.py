"""Tables of PINRec's original: a target, what was clicked before, and the user's group."""

from typing import Final

import polars as pl

from shared_models.logs.tables import rules
from shared_models.logs.tables.format import LONGEST, Format, Parsed, newest, together
from shared_models.logs.tables.lines import Layout

_NAMES: Final = ("user_id", "target_id", "clk_sequence", "label", "group_id")
_LAYOUT: Final = Layout(
    width=5,
    names=dict(enumerate(_NAMES, 1)),
    rules=(
        rules.number("user_id"),
        rules.number_above_0("target_id"),
        rules.id_list("clk_sequence"),
        rules.binary("label"),
        rules.number("group_id"),
    ),
    separator=";",
)


def _parse(text: pl.DataFrame) -> Parsed:
    rows = text.select(
        pl.col("label").cast(pl.Int64),
        user=pl.col("user_id").cast(pl.Int64),
        item=pl.col("target_id").cast(pl.Int64),
        history=newest("clk_sequence"),
    )
    targets = text.select(item=pl.col("target_id").cast(pl.Int64))
    users = text.select(
        user=pl.col("user_id").cast(pl.Int64), group=pl.col("group_id").cast(pl.Int64)
    )
    return Parsed(rows, targets, together(text, item="clk_sequence"), users)


PINREC: Final = Format(_LAYOUT, LONGEST, _parse)
