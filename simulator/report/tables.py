"""The page's tables."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from shared_models.contract.traffic import PAYLOAD
from simulator.report import figures
from simulator.report.entries import Entry, reference
from simulator.report.run_data import Json, RunData
from simulator.report.texts import MISSING, bounds, difference, estimate, milliseconds, size
from simulator.summary import SHOWN

ACCURACY_HEAD: Final = (*SHOWN, "up/rec", "down/rec", "p95 measured")


def accuracy(shown: Sequence[Entry]) -> list[Json]:
    """Each entry's estimates with intervals, bytes and time, in the order of `ACCURACY_HEAD`."""
    rows = []
    for entry in shown:
        traffic = (size(entry.found[f"bytes_{way}_per_rec"]) for way in ("up", "down"))
        cells = [
            *(estimate(entry.found[name]) for name in SHOWN.values()),
            *((value, "") for value in traffic),
            (milliseconds(entry.found["latency_ms"]["p95"]), ""),
        ]
        rows.append({"entry": entry, "cells": cells})
    return rows


def latency(shown: Sequence[Entry]) -> tuple[list[str], list[Json]]:
    """Times that half and that 95 % of rankings took at most: the columns, and a row by entry."""
    links = list(dict.fromkeys(link for entry in shown for link in entry.modelled))
    rows = [
        {"entry": entry, "cells": [_times(entry.found["latency_ms"]), *_by_link(entry, links)]}
        for entry in shown
    ]
    return ["measured here", *(f"modelled {link}" for link in links)], rows


def differences(run: RunData, shown: Sequence[Entry]) -> tuple[list[Json], list[Json]]:
    """Pairs with the entry that all are held against, and the other pairs."""
    by_label = {entry.label: entry for entry in shown}
    rows: list[Json] = [
        {
            "later": by_label[found["entry"]],
            "earlier": by_label[found["against"]],
            "cells": [difference(found[name]) for name in SHOWN.values()],
        }
        for found in run.metrics["differences"].values()
    ]
    rows.sort(key=lambda row: (row["earlier"].number, row["later"].number))
    against = reference(run, shown)
    with_it = [row for row in rows if row["earlier"] is against]
    return with_it, [row for row in rows if row not in with_it]


def traffic(run: RunData, shown: Sequence[Entry]) -> list[Json]:
    """Bytes of each entry by purpose: altogether, and by recommendation where they serve one."""
    sums = run.ledger.group_by("method", "purpose").agg(pl.col("bytes_up", "bytes_down").sum())
    found = sums.sort("purpose").iter_rows(named=True)
    by_label = {entry.label: entry for entry in shown}
    rows = [
        {
            "entry": by_label[row["method"]],
            "purpose": row["purpose"],
            "cells": _bytes(row, by_label),
        }
        for row in found
        if row["method"] in by_label
    ]
    return sorted(rows, key=lambda row: row["entry"].number)


def releases(shown: Sequence[Entry]) -> list[Json]:
    """What each entry reached and cost between releases; empty where nobody got another bundle."""
    return [
        {
            "entry": entry,
            "span": bounds(found),
            "release": found["release"],
            "cells": [_ranged(found["auc"]), _ranged(found["ndcg@10"])],
            "costs": [
                size(found["bytes_up_per_rec"]),
                size(found["bytes_down_per_rec"]),
                size(found["bundle_bytes"]) if found["bundle_bytes"] else MISSING,
            ],
        }
        for entry in shown
        for found in entry.found.get("by_release", ())
    ]


def learning(run: RunData, shown: Sequence[Entry]) -> list[Json]:
    """Cost of learning on devices; empty where nothing learns."""
    if "learning_seconds" not in run.rankings.columns:
        return []
    cost = {row["entry"]: row for row in figures.learning(run.rankings).iter_rows(named=True)}
    return [
        {
            "entry": entry,
            "cells": [f"{found['steps']:,}", *map(milliseconds, (found["mean"], found["p95"]))],
            "told": ", ".join(_told(entry)) or MISSING,
        }
        for entry in shown
        if (found := cost.get(entry.label))
    ]


def _times(found: Json) -> tuple[str, str]:
    return milliseconds(found["p95"]), f"half: {milliseconds(found['p50'])}"


def _by_link(entry: Entry, links: list[str]) -> list[tuple[str, str]]:
    return [
        _times(entry.modelled[link]) if link in entry.modelled else (MISSING, "") for link in links
    ]


def _bytes(row: Json, by_label: dict[str, Entry]) -> list[str]:
    total = [row["bytes_up"], row["bytes_down"]]
    if row["purpose"] not in PAYLOAD:
        return [*map(size, total), MISSING, MISSING]
    count = by_label[row["method"]].found["recommendations"]
    return [*map(size, total), *(size(number / count) for number in total)]


def _ranged(found: Json) -> tuple[str, str]:
    return estimate({**found, "sd": None})


def _told(entry: Entry) -> list[str]:
    state = entry.found.get("state_bytes_per_device")
    return [] if state is None else [f"{size(state)} of vectors a device"]
