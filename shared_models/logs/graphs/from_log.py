"""A graph of a log's items: who took one soon after another joins them, a feature is the label.

Only the training part counts, so that a model of the graph may serve a replay of the test part.
"""

# Shapes: V items, P pairs, B buckets of users.

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from shared_models.contract.errors import BadSetting, TooSmall
from shared_models.contract.nodes import NodeGraph
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.logs.fields import item_fields
from shared_models.logs.graphs.labelled import LabelledGraph
from shared_models.logs.prepared import PreparedLog, taken

_SEPARATORS: Final = r"[\s|,;]+"
_BUCKETS: Final = 64


@dataclass(frozen=True, slots=True)
class Joining:
    """Which items are neighbours.

    Attributes:
        within: events of one user from one item to the other, at most.
        most: strongest neighbours that each item names; it may be named by more.
        seed: of the cut into training, validation and test nodes.
        shares: of these three among the nodes.
    """

    within: int = 5
    most: int = 20
    seed: int = 0
    shares: tuple[float, float, float] = (0.7, 0.1, 0.2)


def graph_of_items(log: PreparedLog, labels: str | None, how: Joining) -> LabelledGraph:
    """Items as nodes, with the words of a column as classes; one item may have several.

    Without a column the classes are all values of all features, as models read them
    (`shared_models.logs.fields`).

    A node's features say who took it, by ``user % 64``, a random projection of its takers.
    Two items are the more alike, the larger ``pairs / sqrt(events of one x events of the other)``.

    Args:
        log: whose items.
        labels: a column of its items; None: all that models read.
        how: which of them are joined, and the cut.

    Raises:
        BadSetting: there is no such column, or it says nothing; or items have no features.
        TooSmall: no two items are ever taken near each other.
    """
    table = log.item_table.sort("item")
    events = taken(log.train)
    pairs_2P = _strongest(_together(events, how.within), events, log.items, how.most)
    if not pairs_2P.shape[1]:
        raise TooSmall(f"{log.manifest.name}: no item is taken near another one")
    labels_VC = _values(log) if labels is None else _classes(table, labels)
    return LabelledGraph(
        f"{log.manifest.name} items by {labels or 'features'}",
        table["raw"].to_list(),
        NodeGraph.whole(_takers(events, log.items), pairs_2P),
        labels_VC,
        labels_VC.sum(1) > 0,
        np.random.default_rng(how.seed).choice(3, log.items, p=how.shares).astype(np.int8),
        multi_label=bool((labels_VC.sum(1) > 1).any()),
    )


def _together(events: pl.DataFrame, within: int) -> pl.DataFrame:
    """Items of one user at most ``within`` events apart: one, other, times."""
    ordered = events.sort("user", "seq").select("user", "item")
    near = pl.concat(
        ordered.with_columns(other=pl.col("item").shift(-apart).over("user")).drop_nulls()
        for apart in range(1, within + 1)
    ).filter(pl.col("item") != pl.col("other"))
    return near.group_by(
        one=pl.min_horizontal("item", "other"), other=pl.max_horizontal("item", "other")
    ).agg(times=pl.len())


def _strongest(together: pl.DataFrame, events: pl.DataFrame, items: int, most: int) -> Int64Array:
    """The neighbours that items name, as places of nodes: int64 (2, P)."""
    counts_V = np.bincount(events["item"].to_numpy(), minlength=items + 1)
    one, other = together["one"].to_numpy(), together["other"].to_numpy()
    alike = together["times"].to_numpy() / np.sqrt(counts_V[one] * counts_V[other])
    named = pl.DataFrame(
        {
            "item": np.concatenate([one, other]),
            "other": np.concatenate([other, one]),
            "alike": np.concatenate([alike, alike]),
        }
    ).sort("item", "alike", "other", descending=[False, True, False])
    kept = named.group_by("item", maintain_order=True).head(most)
    pairs_2P: Int64Array = kept.select("item", "other").to_numpy().T.astype(np.int64) - 1
    return pairs_2P


def _takers(events: pl.DataFrame, items: int) -> Float32Array:
    """Takers of each item by bucket beside what its popularity lets expect, float32 (V, B).

    Pearson residuals, ``(n - e) / sqrt(e + 1)``: near 0 for items that few took.
    """
    places = (events["item"].to_numpy() - 1) * _BUCKETS + events["user"].to_numpy() % _BUCKETS
    counts_VB = np.bincount(places, minlength=items * _BUCKETS).reshape(items, _BUCKETS)
    expected_VB = counts_VB.sum(1, keepdims=True) * counts_VB.sum(0) / max(counts_VB.sum(), 1)
    residuals_VB: Float32Array = ((counts_VB - expected_VB) / np.sqrt(expected_VB + 1)).astype(
        np.float32
    )
    return residuals_VB


def _classes(table: pl.DataFrame, column: str) -> Float32Array:
    """1 for each word of an item's cell, float32 (V, C); words in alphabetical order."""
    known = [name for name in table.columns if name not in {"item", "raw"}]
    if column not in known:
        raise BadSetting("labels", f"items have no {column!r}, but {', '.join(known) or 'nothing'}")
    text = table[column].cast(pl.String).fill_null("")
    cells = text.str.replace_all(_SEPARATORS, " ").str.strip_chars().str.split(" ").to_list()
    words = sorted({word for cell in cells for word in cell if word})
    if not words:
        raise BadSetting("labels", f"{column!r} says nothing of any item")
    place = {word: number for number, word in enumerate(words)}
    labels_VC = np.zeros((len(table), len(words)), np.float32)
    for row, cell in enumerate(cells):
        for word in cell:
            if word:
                labels_VC[row, place[word]] = 1
    return labels_VC


def _values(log: PreparedLog) -> Float32Array:
    """1 for each value of an item's features, float32 (V, C)."""
    fields = item_fields(log)
    if fields is None:
        raise BadSetting("labels", f"the items of {log.manifest.name} have no features")
    labels_VC = np.zeros((log.items, fields.spec.values + 1), np.float32)
    np.put_along_axis(labels_VC, fields.ids[1:], 1, axis=1)
    return labels_VC[:, 1:]
