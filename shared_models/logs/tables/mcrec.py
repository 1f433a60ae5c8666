"""Tables of MCRec's originals: one for each of its networks, none with users.

Rows with the same history are of one user, since nothing else tells who they are. In the table of
decisions, each row is a request that shows the three mechanisms and takes one of them; the items
``1`` to ``3`` of its log are these, in the order of the original's classes.
"""

from typing import Final

import polars as pl

from shared_models.contract.ranking import MECHANISMS
from shared_models.logs.tables import rules
from shared_models.logs.tables.format import LONGEST, Format, Parsed, newest, together
from shared_models.logs.tables.lines import Layout

_SMALLEST: Final = 1e-4
_HISTORY: Final = rules.id_list("history")
_CREC: Final = Layout(
    width=3,
    names={1: "history", 2: "candidate", 3: "label"},
    rules=(_HISTORY, rules.number_above_0("candidate"), rules.binary("label")),
)
_OREC: Final = Layout(
    width=4,
    names={1: "history", 2: "candidate", 3: "prior", 4: "label"},
    rules=(
        _HISTORY,
        rules.number_above_0("candidate"),
        rules.probability("prior"),
        rules.binary("label"),
    ),
)
_DECISIONS: Final = Layout(
    width=2,
    names={1: "history", 2: "label"},
    rules=(_HISTORY, rules.below("label", len(MECHANISMS))),
)


def _shown(text: pl.DataFrame) -> Parsed:
    item = pl.col("candidate").cast(pl.Int64)
    rows = text.select(
        *([_logit(pl.col("prior").cast(pl.Float64))] if "prior" in text.columns else []),
        label=pl.col("label").cast(pl.Int64),
        user=pl.col("history").hash(0).reinterpret(signed=True),
        item=item,
        history=newest("history"),
    )
    return Parsed(rows, text.select(item=item), _taken(text))


def _logit(probability: pl.Expr) -> pl.Expr:
    """Finite also for 0 and 1."""
    inside = probability.clip(_SMALLEST, 1 - _SMALLEST)
    return (inside / (1 - inside)).log()


def _decided(text: pl.DataFrame) -> Parsed:
    # Numbers below those of all items, so that mechanisms come first, in their own order.
    mechanisms = list(range(-len(MECHANISMS), 0))
    rows = (
        text.select(
            chosen=pl.col("label").cast(pl.Int64) - len(MECHANISMS),
            # Each row is a user's only one, so that no mechanism ever gets into a history.
            user=pl.struct("history", place=pl.int_range(pl.len()))
            .hash(0)
            .reinterpret(signed=True),
            item=pl.lit(mechanisms),
            history=newest("history"),
        )
        .explode("item")
        .select("user", "item", "history", label=(pl.col("item") == pl.col("chosen")).cast(int))
    )
    return Parsed(rows, pl.DataFrame({"item": mechanisms}), _taken(text))


def _taken(text: pl.DataFrame) -> pl.DataFrame:
    return together(text, item="history")


CREC: Final = Format(_CREC, LONGEST, _shown)
OREC: Final = Format(_OREC, LONGEST, _shown)
DECISIONS: Final = Format(_DECISIONS, LONGEST, _decided, of_row=len(MECHANISMS))
