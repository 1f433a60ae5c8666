"""Tables of CIGAR's original: a target ad, the user's profile, and what was clicked before.

The original adds 1 to the ids of users' fields and of targets, so that 0 can be padding, but not to
those in sequences. So in a file whose sequences hold the same ids as its targets, one ad has two
rows of the original's embedding table, one as target and one as click. Some files were made for
that: their sequences hold ids with 1 added already. A file doesn't say which it is.
"""

from functools import partial
from typing import Final

import polars as pl

from shared_models.logs.prepared import NEIGHBOURS
from shared_models.logs.tables import rules
from shared_models.logs.tables.format import (
    LONGEST,
    Format,
    Parsed,
    ids,
    named,
    newest,
    together,
)
from shared_models.logs.tables.lines import Layout

USER_FIELDS: Final = (
    "cms_segid",
    "cms_group_id",
    "gender",
    "age_level",
    "pvalue_level",
    "shopping_level",
    "occupation",
    "new_user_class_level",
)
ITEM_FIELDS: Final = ("adgroup", "cate", "campaign", "customer", "brand")
_SEQUENCES: Final = tuple(f"click_{name}" for name in ITEM_FIELDS)
_TARGETS: Final = tuple(f"{name}_id" for name in ITEM_FIELDS)
_LAYOUT: Final = Layout(
    width=29,
    names={
        1: "user_id",
        **dict(enumerate(USER_FIELDS, 2)),
        10: NEIGHBOURS,
        **dict(enumerate(_SEQUENCES, 14)),
        **dict(enumerate(_TARGETS, 21)),
        29: "label",
    },
    rules=(
        *map(rules.number, ("user_id", *USER_FIELDS)),
        rules.id_list(NEIGHBOURS),
        *map(rules.id_list, _SEQUENCES),
        *(rules.as_many(name, _SEQUENCES[0]) for name in _SEQUENCES[1:]),
        *map(rules.number, _TARGETS),
        rules.binary("label"),
    ),
)


def _parse(text: pl.DataFrame, shift: int) -> Parsed:
    """What rows of text come to; ``shift`` is what sequences add to every id."""
    rows = text.select(
        pl.col("label").cast(pl.Int64),
        user=pl.col("user_id").cast(pl.Int64),
        item=pl.col("adgroup_id").cast(pl.Int64),
        history=newest("click_adgroup").list.eval(pl.element() - shift),
    )
    targets = text.select(
        item=pl.col("adgroup_id").cast(pl.Int64),
        **{name: pl.col(f"{name}_id").cast(pl.Int64) for name in ITEM_FIELDS[1:]},
    )
    columns = {name: f"click_{name}" for name in ITEM_FIELDS[1:]}
    taken = together(text, item="click_adgroup", **columns).with_columns(pl.all() - shift)
    told = ids(NEIGHBOURS).list.eval(pl.element().filter(pl.element() > 0))
    users = text.select(
        pl.col(*USER_FIELDS).cast(pl.Int64),
        pl.when(told.list.len() > 0).then(told.cast(pl.List(pl.String)).list.join(" ")),
        user=pl.col("user_id").cast(pl.Int64),
    )
    return Parsed(rows, _named(targets), _named(taken), users)


def _named(items: pl.DataFrame) -> pl.DataFrame:
    return items.with_columns(named(name) for name in ITEM_FIELDS[1:])


CIGAR: Final = Format(_LAYOUT, LONGEST, partial(_parse, shift=0))
CIGAR_SHIFTED: Final = Format(_LAYOUT, LONGEST, partial(_parse, shift=1))
