"""Which charts the page shows of a run, and the sentence that says how each is read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from simulator.report import charts, figures
from simulator.report.charts import Spec
from simulator.report.run_data import Json, RunData
from simulator.report.view import Entry, entries, group_label

ACCURACIES: Final = {"AUC": "auc", "NDCG@10": "ndcg@10"}
SOURCES: Final = ("default-weights", "overlay", "stale-overlay", "cloud", "learned-weights")
DECISIONS: Final = ("score", "refresh", "ask-cloud")
PURPOSES: Final = ("refresh", "rank", "upload", "contribute")
CORNER: Final = (
    "Up is more accurate, left is {}: the best corner is at the top left. The dashed line joins "
    "what no other entry beats in both; bars are 95 % intervals over users."
)
CURVE: Final = (
    "A curve further left is faster; where it crosses 95 %, only one ranking in twenty is slower."
)


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


def trade_of_bytes(run: RunData) -> Iterator[Chart]:
    """Accuracy against payload per recommendation."""
    axis = charts.bytes_axis("payload per recommendation, up and down (log scale)")
    costs = {entry.number: entry.bytes_per_rec for entry in entries(run)}
    for accuracy in ACCURACIES:
        rows = _traded(run, costs, accuracy)
        if rows:
            name, title = f"bytes-{ACCURACIES[accuracy]}", f"{accuracy} against bytes"
            yield Chart(
                name, title, CORNER.format("less traffic"), charts.trade(rows, axis, accuracy)
            )


def trade_of_latency(run: RunData) -> Iterator[Chart]:
    """AUC against latency: modelled for each link, or as measured where nothing was modelled."""
    axis = charts.time_axis("95 % of rankings took at most so many ms (log scale)")
    modelled = {entry.number: entry.latency(run) for entry in entries(run)}
    measured = {entry.number: entry.found["latency_ms"]["p95"] for entry in entries(run)}
    links = list(dict.fromkeys(link for found in modelled.values() for link in found))
    for link in links or [figures.MEASURED]:
        of_link = {number: found.get(link) for number, found in modelled.items()}
        rows = _traded(run, of_link if links else measured, "AUC")
        title = f"AUC against latency on {link}" if links else "AUC against latency on loopback"
        origin = "modelled" if links else "measured"
        spec = charts.trade(rows, axis, "AUC")
        yield Chart(f"latency-{link}", title, CORNER.format("faster"), spec, origin)


def traffic(run: RunData) -> Iterator[Chart]:
    """Bytes over virtual time by purpose, of each entry that has any."""
    sums, (unit, _) = figures.traffic(run.rankings), figures.time_unit(run.rankings)
    bytes_ = sums.with_columns(bytes=pl.col("up") + pl.col("down"))
    for entry in entries(run):
        rows = bytes_.filter(entry=entry.label).drop("entry", "up", "down").to_dicts()
        if rows:
            kinds = [kind for kind in PURPOSES if any(row["purpose"] == kind for row in rows)]
            reading = f"Height: payload within one {figures.BINS}th of the replay's virtual time."
            spec = charts.over_time(rows, unit, PURPOSES)
            yield Chart(f"traffic-{entry.number}", "", reading, spec, kinds=kinds, entry=entry)


def latency_parts(run: RunData) -> Iterator[Chart]:
    """Where the time of a mean ranking went."""
    rows = _known(run, figures.latency_parts(run.rankings).rename({"part": "kind"}))
    if rows:
        reading = "The length is the mean time of a ranking as measured on this machine, in parts."
        if not figures.tells_cloud_parts(run.rankings):
            reading += (
                " The cloud did not tell its own times, so transfer holds all of an exchange."
            )
        length = {"field": "ms", "title": "mean ms per ranking"}
        spec = charts.stacked(rows, figures.PARTS, length, ",.3~r")
        kinds = figures.PARTS
        yield Chart("parts", "Where the time goes", reading, spec, "measured", kinds)


def latency_curves(run: RunData) -> Iterator[Chart]:
    """Distributions of latency: as measured, and modelled for each link."""
    curves = figures.latency_curves(run.rankings)
    for (link,), own in curves.group_by("link", maintain_order=True):
        rows = [{**row, "named": _named(row)} for row in _known(run, own.drop("link"))]
        is_measured = link == figures.MEASURED
        title = "Latency on loopback" if is_measured else f"Latency on {link}"
        origin = "measured" if is_measured else "modelled"
        yield Chart(f"curve-{link}", title, CURVE, charts.distribution(rows), origin)


def by_activity(run: RunData) -> Iterator[Chart]:
    """Accuracy of users who did little, and of those who did much."""
    for accuracy in ACCURACIES:
        rows = _grouped(run, "by_activity", accuracy)
        if rows:
            order = list(dict.fromkeys(row["group"] for row in sorted(rows, key=_least)))
            reading = (
                "Users in thirds by the number of their events before the first ranking. Compare "
                "entries inside a group: groups differ in more than activity."
            )
            spec = charts.by_group(rows, accuracy, order)
            yield Chart(f"activity-{accuracy}", f"{accuracy} by users' activity", reading, spec)


def by_staleness(run: RunData) -> Iterator[Chart]:
    """Accuracy by the age of the overlay that made the ranking."""
    for accuracy in ACCURACIES:
        rows = _grouped(run, "by_staleness", accuracy)
        if rows:
            order = list(dict.fromkeys(row["group"] for row in sorted(rows, key=_least)))
            reading = (
                "A line that falls to the right says what it costs to believe old parameters. Each "
                "age holds other rankings, so small steps may come from these."
            )
            spec = charts.by_age(rows, accuracy, order)
            yield Chart(f"age-{accuracy}", f"{accuracy} by age of parameters", reading, spec)


def provenance(run: RunData) -> Iterator[Chart]:
    """What rankings were made with, and what devices decided."""
    told = (
        ("source", "What rankings were made with", SOURCES),
        ("decision", "What devices decided", DECISIONS),
    )
    for column, title, kinds in told:
        rows = _known(run, figures.shares(run.rankings, column).drop_nulls())
        if rows:
            length = {"field": "share", "title": "share of rankings"}
            length |= {"axis": {"format": "%", "tickCount": 5}, "scale": {"domain": [0, 1]}}
            reading = "Each bar is all rankings of an entry, all seeds together."
            spec = charts.stacked(rows, kinds, length, ".1%")
            yield Chart(column, title, reading, spec, "measured", kinds)


def _row(entry: Entry) -> Json:
    return {"number": entry.number, "entry": entry.label}


def _known(run: RunData, frame: pl.DataFrame) -> list[Json]:
    """Rows of a frame with the number of their entry."""
    by_label = {entry.label: _row(entry) for entry in entries(run)}
    rows = frame.iter_rows(named=True)
    return [{**row, **by_label[row["entry"]]} for row in rows if row["entry"] in by_label]


def _traded(run: RunData, costs: Mapping[int, float | None], accuracy: str) -> list[Json]:
    metric = ACCURACIES[accuracy]
    known = (
        {**_row(entry), "cost": costs[entry.number], **_ends(entry.found[metric])}
        for entry in entries(run)
        if costs[entry.number] is not None and entry.found[metric]["mean"] is not None
    )
    return _undominated(known)


def _undominated(rows: Iterable[Json]) -> list[Json]:
    """Rows in order of cost; ``best`` are those more accurate than all that cost no more."""
    ordered = sorted(rows, key=lambda row: (row["cost"], -row["mean"]))
    reached = float("-inf")
    for row in ordered:
        row["best"] = row["mean"] > reached
        reached = max(reached, row["mean"])
    return ordered


def _grouped(run: RunData, groups: str, accuracy: str) -> list[Json]:
    return [
        {
            **_row(entry),
            **_ends(found[ACCURACIES[accuracy]]),
            "group": group_label(found, without="no overlay"),
            "least": found["at_least"],
            "recommendations": found["recommendations"],
        }
        for entry in entries(run)
        for found in entry.found.get(groups, ())
        if found[ACCURACIES[accuracy]]["mean"] is not None
    ]


def _ends(found: Json) -> Json:
    return {name: found[name] for name in ("mean", "low", "high")}


def _least(row: Json) -> float:
    return float("inf") if row["least"] is None else row["least"]


def _named(row: Json) -> bool:
    """Whether the entry's number stands here on its curve; another height for each entry."""
    place = 10 + 7 * row["number"] % 35
    return bool(row["share"] == figures.LEVELS[place])
