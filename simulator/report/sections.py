"""Which charts the page shows of a run, and the sentence that says how each is read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from shared_models.contract.traffic import PAYLOAD
from simulator.report import charts, figures
from simulator.report.entries import Entry
from simulator.report.marks import Spec, bytes_axis, time_axis
from simulator.report.run_data import Json
from simulator.report.texts import bounds

ACCURACIES: Final = {"AUC": "auc", "NDCG@10": "ndcg@10"}
SOURCES: Final = (
    "default-weights",
    "overlay",
    "stale-overlay",
    "cloud",
    "learned-weights",
    "list",
    "reranked",
)
DECISIONS: Final = ("score", "refresh", "ask-cloud", "keep")
CORNER: Final = (
    "Up is more accurate, left is {}: the best corner is at the top left. The dashed line joins "
    "what no other entry beats in both; bars are 95 % intervals over users."
)
CURVE: Final = (
    "A curve further left is faster; where it crosses 95 %, one ranking in twenty is slower."
)
ACTIVITY: Final = (
    "Users in thirds by how much they had done before their first ranking. Compare entries inside "
    "a third: users of different thirds differ in more than activity."
)
ALIKE: Final = (
    "All users had done equally much before their first ranking, so there is one group of them."
)
AGE: Final = (
    "A line that falls to the right says what it costs to believe old parameters. Each age holds "
    "other rankings, so small steps may come from these."
)
RELEASES: Final = (
    "Each point is a span between two moments at which an entry got another bundle; entries that "
    "keep theirs are cut at the same moments. Compare entries within a span: other spans hold "
    "other rankings."
)
ROUNDS: Final = (
    "What a device tells the cloud reaches other users at the next round: the further right, the "
    "older is what the cloud knows of them. A line joins entries that differ in nothing else."
)
BELOW: Final = " Not shown, since far below all others: {}."
WHOLE: Final = "The length is the mean time of a ranking on this machine, in its parts."
_SEVERAL: Final = 2
_CROWD: Final = 4
"""Entries among which one may be left out of a chart."""
UNTOLD: Final = (
    " Where the cloud did not tell its own times, transfer holds the whole exchange: of some "
    "rankings it did not."
)
SPAN: Final = (
    f"The height is the payload that rankings waited for within a {figures.BINS}th of the replay's "
    "virtual time; a refresh counts with what it names. What is handed over besides stands above."
)
SHARES: Final = "Each bar is all rankings of an entry, of all seeds together."


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with what a reader needs beside it.

    Attributes:
        name: its id in the page.
        title: what it shows.
        reading: how to read it.
        spec: for Vega-Lite.
        origin: ``measured`` or ``modelled``, where the two must be kept apart.
        kinds: what its colours stand for, where these are not entries.
        entry: whose it is, where it is of one alone.
    """

    name: str
    title: str
    reading: str
    spec: Spec
    origin: str = ""
    kinds: Sequence[str] = ()
    entry: Entry | None = None


def trade_of_bytes(shown: Sequence[Entry]) -> Iterator[Chart]:
    """Accuracy against payload per recommendation."""
    costs = {entry.number: entry.bytes_per_rec for entry in shown}
    for accuracy, metric in ACCURACIES.items():
        rows, below = _in_sight(_traded(shown, costs, metric))
        if rows:
            spec, reading = (
                charts.trade(rows, bytes_axis(), accuracy),
                CORNER.format("less traffic") + below,
            )
            yield Chart(f"bytes-{metric}", f"{accuracy} against bytes", reading, spec)


def trade_of_latency(shown: Sequence[Entry]) -> Iterator[Chart]:
    """AUC against latency: modelled for each link, or as measured where nothing was modelled."""
    axis = time_axis("p95 of a ranking, ms (log)", 1, 2, 5)
    links = list(dict.fromkeys(link for entry in shown for link in entry.modelled))
    for link in links or [figures.MEASURED]:
        costs = {entry.number: _slowest(entry, link) for entry in shown}
        rows, below = _in_sight(_traded(shown, costs, "auc"))
        if rows:
            origin, where = ("modelled", link) if links else ("measured", "loopback")
            spec, reading = charts.trade(rows, axis, "AUC"), CORNER.format("faster") + below
            yield Chart(f"latency-{link}", f"AUC against latency, {where}", reading, spec, origin)


def traffic(
    ledger: pl.DataFrame, rankings: pl.DataFrame, shown: Sequence[Entry]
) -> Iterator[Chart]:
    """Bytes that rankings waited for over virtual time by purpose, of each entry that has any."""
    sums, (unit, _) = figures.traffic(rankings, ledger), figures.time_unit(rankings)
    both = sums.select("entry", "purpose", "time", bytes=pl.col("up") + pl.col("down"))
    for entry in shown:
        rows = _numbered([entry], both)
        if rows:
            kinds = [kind for kind in PAYLOAD if any(row["purpose"] == kind for row in rows)]
            spec, title = charts.over_time(rows, unit, kinds), f"Traffic of {entry.label}"
            yield Chart(f"traffic-{entry.number}", title, SPAN, spec, kinds=kinds, entry=entry)


def latency_parts(rankings: pl.DataFrame, shown: Sequence[Entry]) -> Iterator[Chart]:
    """Where the time of a mean ranking went."""
    rows = _numbered(shown, figures.latency_parts(rankings).rename({"part": "kind"}))
    if rows:
        reading = WHOLE if figures.tells_cloud_parts(rankings) else WHOLE + UNTOLD
        length = {"field": "ms", "title": "mean ms of a ranking"}
        spec = charts.stacked(rows, figures.PARTS, length, ".3~r")
        yield Chart("parts", "Where the time goes", reading, spec, "measured", figures.PARTS)


def latency_curves(rankings: pl.DataFrame, shown: Sequence[Entry]) -> Iterator[Chart]:
    """Distributions of latency: as measured, and modelled for each link."""
    for (link,), own in figures.latency_curves(rankings).group_by("link", maintain_order=True):
        rows = [{**row, "named": _is_named(row)} for row in _numbered(shown, own.drop("link"))]
        is_measured = link == figures.MEASURED
        origin, where = ("measured", "loopback") if is_measured else ("modelled", link)
        spec = charts.distribution(rows)
        yield Chart(f"curve-{link}", f"Latency, {where}", CURVE, spec, origin)


def by_activity(shown: Sequence[Entry]) -> Iterator[Chart]:
    """Accuracy of users who did little, and of those who did much."""
    for accuracy, metric in ACCURACIES.items():
        rows, order = _grouped(shown, "by_activity", metric)
        if rows:
            spec = charts.by_group(rows, accuracy, order)
            reading = ACTIVITY if len(order) > 1 else ALIKE
            yield Chart(f"activity-{metric}", f"{accuracy} by users' activity", reading, spec)


def by_staleness(shown: Sequence[Entry]) -> Iterator[Chart]:
    """Accuracy by the age of the overlay that made the ranking."""
    for accuracy, metric in ACCURACIES.items():
        rows, order = _grouped(shown, "by_staleness", metric)
        if rows:
            spec = charts.by_age(rows, accuracy, order)
            yield Chart(f"age-{metric}", f"{accuracy} by age of parameters", AGE, spec)


def by_release(shown: Sequence[Entry]) -> Iterator[Chart]:
    """Accuracy over the replay, where entries got other bundles in the middle of it."""
    for accuracy, metric in ACCURACIES.items():
        rows, _ = _grouped(shown, "by_release", metric, "at_most", "release")
        for row in rows:
            row["at"] = (row["least"] + row.pop("at_most")) / 2
            row["group"] = f"release {row['release']}, moments {row['group']}"
        if rows:
            spec, title = charts.by_time(rows, accuracy), f"{accuracy} from release to release"
            yield Chart(f"release-{metric}", title, RELEASES, spec)


def by_round(shown: Sequence[Entry]) -> Iterator[Chart]:
    """Accuracy by the length of a round, where entries differ in it."""
    if len({entry.round_events for entry in shown}) < _SEVERAL:
        return
    for accuracy, metric in ACCURACIES.items():
        rows = [
            {
                **_row(entry),
                **_ends(entry.found[metric]),
                "group": f"{entry.round_events:,} moments a round",
                "round_events": entry.round_events,
                "family": entry.family,
                "recommendations": entry.found["recommendations"],
            }
            for entry in shown
            if entry.found[metric]["mean"] is not None
        ]
        if rows:
            spec, title = charts.by_round(rows, accuracy), f"{accuracy} by the length of a round"
            yield Chart(f"round-{metric}", title, ROUNDS, spec)


def provenance(rankings: pl.DataFrame, shown: Sequence[Entry]) -> Iterator[Chart]:
    """What rankings were made with, and what devices decided."""
    told = (
        ("source", "What rankings were made with", SOURCES),
        ("decision", "What devices decided", DECISIONS),
    )
    length = {"field": "share", "title": "share of rankings", "scale": {"domain": [0, 1]}}
    length |= {"axis": {"format": "%", "tickCount": 5}}
    for column, title, all_kinds in told:
        rows = _numbered(shown, figures.shares(rankings, column).drop_nulls())
        if rows:
            kinds = [kind for kind in all_kinds if any(row["kind"] == kind for row in rows)]
            spec = charts.stacked(rows, kinds, length, ".1%")
            yield Chart(column, title, SHARES, spec, kinds=kinds)


def _row(entry: Entry) -> Json:
    return {"number": entry.number, "entry": entry.label}


def _numbered(shown: Sequence[Entry], frame: pl.DataFrame) -> list[Json]:
    """Rows of the shown entries, with their numbers."""
    by_label = {entry.label: _row(entry) for entry in shown}
    rows = frame.iter_rows(named=True)
    return [{**row, **by_label[row["entry"]]} for row in rows if row["entry"] in by_label]


def _traded(shown: Sequence[Entry], costs: Mapping[int, float | None], metric: str) -> list[Json]:
    return _undominated(
        {**_row(entry), "cost": costs[entry.number], **_ends(entry.found[metric])}
        for entry in shown
        if costs[entry.number] is not None and entry.found[metric]["mean"] is not None
    )


def _in_sight(rows: list[Json]) -> tuple[list[Json], str]:
    """Rows without those so far below that nobody could tell the others apart, and who these are.

    Below is what lies further under the next one than all that are above it lie apart.
    """
    kept, below = sorted(rows, key=lambda row: float(row["mean"])), list[Json]()
    while len(kept) > _CROWD and (
        kept[1]["mean"] - kept[0]["mean"] > kept[-1]["mean"] - kept[1]["mean"]
    ):
        below.append(kept.pop(0))
    names = ", ".join(f"{row['entry']} ({row['mean']:.3f})" for row in below)
    return [row for row in rows if row in kept], BELOW.format(names) if below else ""


def _undominated(rows: Iterable[Json]) -> list[Json]:
    """Rows in order of cost; ``best`` are those more accurate than all that cost no more."""
    ordered = sorted(rows, key=lambda row: (row["cost"], -row["mean"]))
    reached = float("-inf")
    for row in ordered:
        row["best"] = row["mean"] > reached
        reached = max(reached, row["mean"])
    return ordered


def _grouped(
    shown: Sequence[Entry], groups: str, metric: str, *besides: str
) -> tuple[list[Json], list[str]]:
    """Rows of the groups with what else they hold, and the groups' names in order."""
    rows = [
        {
            **_row(entry),
            **_ends(found[metric]),
            "group": bounds(found),
            "least": found["at_least"],
            "recommendations": found["recommendations"],
            **{name: found[name] for name in besides},
        }
        for entry in shown
        for found in entry.found.get(groups, ())
        if found[metric]["mean"] is not None
    ]
    ordered = sorted(rows, key=lambda row: (row["least"] is None, row["least"] or 0))
    return rows, list(dict.fromkeys(row["group"] for row in ordered))


def _slowest(entry: Entry, link: str) -> float | None:
    """What 95 % of rankings took at most, in ms; None where it was not modelled."""
    of_links = {**entry.modelled, figures.MEASURED: entry.found["latency_ms"]}
    return of_links[link]["p95"] if link in of_links else None


def _ends(found: Json) -> Json:
    return {name: found[name] for name in ("mean", "low", "high")}


def _is_named(row: Json) -> bool:
    """Whether the entry's number stands here on its curve; another height for each entry."""
    place = 9 + 7 * row["number"] % 35
    return bool(row["share"] == figures.LEVELS[place])
