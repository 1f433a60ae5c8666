"""What the page says in words and tables, made from a run's files."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import polars as pl
import yaml

from simulator.ledger import PAYLOAD
from simulator.report.figures import learning, links
from simulator.report.run_data import Json, RunData
from simulator.summary import SHOWN

MISSING: Final = "–"
SPLITS: Final = {
    "user-tail": "the last fifth of each user's events is replayed, what came before trained",
    "global-time": "all that happened after one point in time is replayed, what came before trained",
    "leave-one-out": "the last event of each user is replayed, what came before trained",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the comparison.

    Attributes:
        number: from 1; stands for the entry in charts.
        label: its name.
        found: what ``metrics.json`` says of it.
    """

    number: int
    label: str
    found: Json

    @property
    def bytes_per_rec(self) -> float | None:
        """Payload in both directions; None where it is not known."""
        up, down = self.found["bytes_up_per_rec"], self.found["bytes_down_per_rec"]
        return None if up is None or down is None else up + down

    def latency(self, run: RunData) -> dict[str, float]:
        """95 % of its rankings took no longer, in ms: by link where it was modelled."""
        modelled = self.found.get("modelled_ms")
        if modelled:
            return {link: float(found["p95"]) for link, found in modelled.items()}
        own = run.rankings.filter(entry=self.label)
        quantiles = {link: own[f"modelled_{link}"].quantile(0.95, "linear") for link in links(own)}
        return {link: 1000 * value for link, value in quantiles.items() if value is not None}


def entries(run: RunData) -> list[Entry]:
    """What was played, in its order."""
    methods = run.metrics["methods"]
    return [Entry(number, label, methods[label]) for number, label in enumerate(run.entries, 1)]


def headline(run: RunData) -> str:
    """What was run on what, in one sentence."""
    scenario, environment, rankings = run.scenario, run.environment, run.rankings
    shown = len(run.entries)
    seeds = len(scenario["seeds"])
    moments = rankings.select("user", "seq").n_unique() if len(rankings) else 0
    users = rankings["user"].n_unique() if len(rankings) else 0
    log = str(scenario["log"]).rpartition("/")[2]
    return (
        f"{_count(shown, 'entry', 'entries')} ranked {_count(moments, 'moment')} of "
        f"{_count(users, 'user')} of the log {log}, split {scenario['split']}, with "
        f"{_count(seeds, 'model seed')} each. {_count(scenario['devices'], 'device process', 'es')} "
        f"and one cloud process at a time played them on a machine with "
        f"{_count(environment.get('cpus') or 1, 'processor core')}, on the {_processor(run)}."
    )


def title(run: RunData) -> str:
    """What is compared, and on what."""
    labels = list(run.entries)
    log = str(run.scenario["log"]).rpartition("/")[2]
    if len(labels) > 4:
        return f"{len(labels)} entries on {log}"
    *some, last = labels
    return f"{', '.join(some)} and {last} on {log}" if some else f"{last} on {log}"


def verdicts(run: RunData) -> list[str]:
    """What each entry gains over the first one, and what it costs, in a sentence each."""
    first, *others = entries(run)
    own = first.found["auc"]
    lines = [f"{first.label} reaches an AUC of {_number(own['mean'])}."] if own["mean"] else []
    return [*lines, *(_verdict(run, first, other) for other in others)]


def _verdict(run: RunData, first: Entry, other: Entry) -> str:
    found = run.metrics["differences"].get(f"{other.label}-{first.label}", {}).get("auc")
    if not found or found["low"] is None:
        return f"{other.label} was cut short or has no figure, so it is not compared."
    ends = f"AUC {found['mean']:+.4f}, 95 % interval {found['low']:+.4f} to {found['high']:+.4f}"
    cost = f"It moves {size(other.bytes_per_rec)} per recommendation"
    wait = f"95 % of its rankings took at most {_ms(other.found['latency_ms']['p95'])} as measured"
    return f"{other.label} {_judged(found)} {first.label}: {ends}. {cost}; {wait}."


def _judged(found: Json) -> str:
    if found["low"] > 0:
        return "ranks better than"
    return "ranks worse than" if found["high"] < 0 else "is not shown to differ from"


def protocol(run: RunData) -> list[tuple[str, str]]:
    """How the figures were taken: names, and what they mean."""
    text, _, leaks = run.metrics["protocol"].partition("the split leaks: ")
    leaks, _, more = leaks.partition("; ")
    split = run.scenario["split"]
    facts = [
        ("Protocol", text.rstrip("; ")),
        ("Split", f"{split}: {SPLITS.get(split, 'see the documentation')}"),
        ("The split leaks", leaks or "not told"),
        ("Cut", more),
        ("Order", "a device ranks first and learns only then what was taken; time is virtual"),
        (
            "Intervals",
            "95 %, over users drawn anew; differences are paired by user. They cover the choice of "
            "users, not the chance in training: the spread over model seeds (sd) stands apart",
        ),
    ]
    return [(name, value) for name, value in facts if value]


def accuracy_table(run: RunData) -> Json:
    """Every entry with estimates, intervals, spread over seeds, bytes and times."""
    shown = entries(run)
    modelled = {entry.number: entry.latency(run) for entry in shown}
    names = list(dict.fromkeys(link for found in modelled.values() for link in found))
    head = [*SHOWN, "up/rec", "down/rec", "p50 measured", "p95 measured"]
    rows = [
        {
            "entry": entry,
            "cells": [
                *(_estimate(entry.found[name]) for name in SHOWN.values()),
                *((size(entry.found[f"bytes_{way}_per_rec"]), "") for way in ("up", "down")),
                *((_ms(entry.found["latency_ms"][level]), "") for level in ("p50", "p95")),
                *((_ms(modelled[entry.number].get(link)), "") for link in names),
            ],
        }
        for entry in shown
    ]
    return {"head": [*head, *(f"p95 {link} modelled" for link in names)], "rows": rows}


def differences(run: RunData) -> tuple[list[Json], list[Json]]:
    """Pairs with the first entry, and the other pairs."""
    pairs = [
        (later, earlier)
        for earlier, later in combinations(entries(run), 2)
        if f"{later.label}-{earlier.label}" in run.metrics["differences"]
    ]
    rows = [_pair(run, later, earlier) for later, earlier in pairs]
    with_first = [row for row in rows if row["earlier"].number == 1]
    return with_first, [row for row in rows if row not in with_first]


def _pair(run: RunData, later: Entry, earlier: Entry) -> Json:
    found = run.metrics["differences"][f"{later.label}-{earlier.label}"]
    cells = [(*_difference(found[name]), _sign(found[name])) for name in SHOWN.values()]
    return {"later": later, "earlier": earlier, "cells": cells}


def _sign(found: Json) -> str:
    """Where the interval lies: `above` zero, `below` it, or `across`."""
    if found["low"] is None or found["low"] <= 0 <= found["high"]:
        return "across"
    return "above" if found["low"] > 0 else "below"


def traffic_table(run: RunData) -> list[Json]:
    """Bytes of each entry by purpose, by recommendation where they serve one, else altogether."""
    counts = {entry.label: (entry, entry.found["recommendations"]) for entry in entries(run)}
    sums = run.ledger.group_by("method", "purpose").agg(pl.col("bytes_up", "bytes_down").sum())
    rows = []
    for label, purpose, up, down in sums.sort("method", "purpose").iter_rows():
        if label not in counts:
            continue
        entry, recommendations = counts[label]
        per_rec = [up / recommendations, down / recommendations] if purpose in PAYLOAD else []
        cells = [size(up), size(down), *(map(size, per_rec) if per_rec else ("apart", "apart"))]
        rows.append({"entry": entry, "purpose": purpose, "cells": cells})
    return sorted(rows, key=lambda row: (row["entry"].number, row["purpose"]))


def learning_table(run: RunData) -> list[Json]:
    """Cost of learning on devices; empty where nothing learns."""
    if "learning_seconds" not in run.rankings.columns:
        return []
    cost = {row["entry"]: row for row in learning(run.rankings).iter_rows(named=True)}
    return [
        {
            "entry": entry,
            "cells": [f"{found['steps']:,}", _ms(found["mean"]), _ms(found["p95"])],
            "more": [f"{name} {_number(value)}" for name, value in _told(entry)],
        }
        for entry in entries(run)
        if (found := cost.get(entry.label))
    ]


def _told(entry: Entry) -> Iterator[tuple[str, float]]:
    for name, value in (entry.found.get("learning") or {}).items():
        if isinstance(value, int | float):
            yield name, value


def environment(run: RunData) -> list[tuple[str, str]]:
    """What may explain a measured figure."""
    about = run.environment
    packages = about.get("packages", {})
    facts = [
        (
            "Processor",
            f"{_processor(run)}; devices run on {', '.join(_providers(run)) or 'unknown'}",
        ),
        ("Machine", f"{about.get('cpus', '?')} cores, {size(about.get('memory_bytes'))} of memory"),
        ("System", f"{about.get('platform', 'unknown')}, Python {about.get('python', '?')}"),
        ("Packages", ", ".join(f"{name} {number}" for name, number in packages.items() if number)),
        ("Memory of a device process", _largest(about.get("devices", []))),
        ("Memory of a cloud process", _largest(about.get("clouds", []))),
    ]
    return [(name, value) for name, value in facts if value]


def scenario_text(run: RunData) -> str:
    """The scenario as it can be played again."""
    return yaml.safe_dump(run.scenario, sort_keys=False)


def size(number: float | None) -> str:
    """Bytes, as people read them; a unit is 1,000 of the one before."""
    if number is None:
        return MISSING
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= one:
            return f"{number / one:.3g} {unit}"
    return f"{number:.3g} B"


def group_label(found: Json, *, without: str = "none") -> str:
    """The bounds of a group of `simulator.groups`."""
    least, most = found["at_least"], found["at_most"]
    if least is None:
        return without
    if most is None:
        return f"{least} or more"
    return f"{least}" if least == most else f"{least}–{most}"


def _estimate(found: Json) -> tuple[str, str]:
    if found["mean"] is None:
        return MISSING, ""
    spread = "" if found["sd"] is None else f" ± {found['sd']:.4f}"
    ends = "" if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
    return f"{found['mean']:.4f}{spread}", ends


def _difference(found: Json) -> tuple[str, str]:
    if found["mean"] is None or found["low"] is None:
        return MISSING, ""
    return f"{found['mean']:+.4f}", f"{found['low']:+.4f} to {found['high']:+.4f}"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _ms(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3g} ms" if value < 1000 else f"{value:,.0f} ms"


def _count(number: int, one: str, ending: str = "s") -> str:
    many = ending if len(ending) > 2 else one + ending
    return f"{number:,} {one if number == 1 else many}"


def _providers(run: RunData) -> list[str]:
    found = (device.get("provider") for device in run.environment.get("devices", []))
    return sorted({re.sub("ExecutionProvider$", "", name) for name in found if name})


def _processor(run: RunData) -> str:
    """CPU, or GPU where the cloud or a device was told to use one."""
    named = {str(run.scenario.get(part, {}).get("device", "")) for part in ("train", "cloud")}
    on_gpu = any("cuda" in name.lower() for name in named | set(_providers(run)))
    return "GPU (CUDA)" if on_gpu else "CPU"


def _largest(processes: Sequence[Json]) -> str:
    sizes = [process["resident_bytes"] for process in processes if process.get("resident_bytes")]
    return f"at most {size(max(sizes))} at its end, of {len(sizes)}" if sizes else ""
