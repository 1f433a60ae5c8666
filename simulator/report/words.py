"""What the page says in sentences: what was run, what came out, how, and where."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from simulator.entries import read_entry
from simulator.report.entries import Entry, reference
from simulator.report.run_data import RunData
from simulator.report.texts import count, milliseconds, size

SPLITS: Final = {
    "user-tail": "each user's last fifth of events is replayed; training knows what came before",
    "global-time": "what came after a point in time is replayed; training knows what came before",
    "leave-one-out": "each user's last event is replayed; training knows what came before",
}
MOBILE: Final = "4g"
"""The link that stands for a phone where one figure must do."""
INTERVALS: Final = (
    "95 %, over users drawn anew; differences are paired by user. They cover the choice of users, "
    "not the chance in training: the spread over model seeds (±) stands apart"
)
Facts = list[tuple[str, str]]


def title(run: RunData) -> str:
    """What is compared, and on what."""
    labels = run.entries
    if len(labels) > 4:
        return f"{len(labels)} entries on {_log(run)}"
    return f"{_listed(labels)} on {_log(run)}"


def headline(run: RunData) -> str:
    """What was run on what, in two sentences."""
    scenario, rankings = run.scenario, run.rankings
    moments = rankings.select("user", "seq").n_unique() if len(rankings) else 0
    users = rankings["user"].n_unique() if len(rankings) else 0
    seeds = sorted({len(found["seeds"]) for found in run.metrics["methods"].values()})
    between = f"{seeds[0]} to " if len(seeds) > 1 else ""
    return (
        f"{count(len(run.entries), 'entry', 'entries').capitalize()} ranked "
        f"{count(moments, 'moment')} of {count(users, 'user')} of the log {_log(run)}, split "
        f"{scenario['split']}, with {between}{count(seeds[-1], 'model seed')} each. "
        f"{count(scenario['devices'], 'device process', 'device processes')} and one cloud process "
        f"at a time played them on {_machine(run.environment)}, on the {processor(run)}."
    )


def is_cut_short(run: RunData) -> bool:
    """Whether an entry or a seed of the scenario was not played, or not to its end."""
    played, seeds = run.metrics["methods"], len(run.scenario["seeds"])
    wanted = {read_entry(text).label for text in run.scenario.get("methods", ())}
    whole = (found["complete"] and len(found["seeds"]) >= seeds for found in played.values())
    return bool(wanted - played.keys()) or not all(whole)


def faults(run: RunData) -> list[str]:
    """What was done to each run on purpose, and whether the cloud kept its word."""
    told = run.metrics["measured"].get("faults", {})
    return [f"{title}: {_stood(about)}" for title, about in told.items()]


def _stood(about: Mapping[str, Any]) -> str:
    kinds = Counter(fault["kind"] for fault in about["played"])
    played = ", ".join(f"{times} x {kind}" for kind, times in kinds.items())
    checked = about["checked"]
    promised = sum(each["acknowledged"] for each in checked)
    wrong = sum(each["lost"] + each["doubled"] + each["reordered"] for each in checked)
    word = f"of {promised:,} acknowledged writes {wrong} are lost, doubled or reordered"
    return f"{played}; {about['stale']:,} stale rankings; {word if checked else 'not checked'}."


def verdicts(run: RunData, shown: Sequence[Entry]) -> list[tuple[Entry, str]]:
    """What each entry gains over the one it is held against and what it costs, in words."""
    against = reference(run, shown)
    reached = against.found["auc"]["mean"]
    opening = "has no AUC" if reached is None else f"reaches an AUC of {reached:.4f}"
    others = [entry for entry in shown if entry is not against]
    return [
        (against, f"{opening}. {_costs(against)}"),
        *((entry, _verdict(run, against, entry)) for entry in others),
    ]


def protocol(run: RunData) -> Facts:
    """How the figures were taken: names, and what they mean."""
    text, _, rest = run.metrics["protocol"].partition("the split leaks: ")
    leaks, _, cut = rest.partition("; ")
    split = run.scenario["split"]
    facts = [
        ("Protocol", text.rstrip("; ")),
        ("Split", f"{split}: {SPLITS.get(split, 'see the documentation of splits')}"),
        ("The split leaks", leaks or "not told"),
        ("Cut", cut),
        ("Order", "a device ranks first and only then learns what was taken; time is virtual"),
        ("Intervals", INTERVALS),
    ]
    return [(name, value) for name, value in facts if value]


def environment(run: RunData) -> Facts:
    """What may explain a measured figure."""
    about = run.environment
    packages = about.get("packages", {}).items()
    providers = _listed(_providers(about)) or "a provider that was not told"
    facts = [
        ("Processor", f"{processor(run)}; devices rank with {providers}"),
        ("Machine", f"{_machine(about)}, {size(about.get('memory_bytes'))} of memory"),
        ("System", f"{about.get('platform', 'not told')}, Python {about.get('python', '')}"),
        ("Packages", ", ".join(f"{name} {number}" for name, number in packages if number)),
        ("Device processes", _memory(about.get("devices", []))),
        ("Cloud processes", _memory(about.get("clouds", []))),
    ]
    return [(name, value) for name, value in facts if value]


def scenario_text(run: RunData) -> str:
    """The scenario as it can be played again."""
    return yaml.safe_dump(run.scenario, sort_keys=False)


def processor(run: RunData) -> str:
    """GPU where a device's provider, or the cloud's settings, say so; else CPU."""
    told = [str(run.scenario.get(part, {}).get("device", "")) for part in ("train", "cloud")]
    on_gpu = any("cuda" in name.lower() for name in (*told, *_providers(run.environment)))
    return "GPU (CUDA)" if on_gpu else "CPU"


def _verdict(run: RunData, against: Entry, other: Entry) -> str:
    found = run.metrics["differences"].get(f"{other.label}-{against.label}", {}).get("auc")
    if not found or found["low"] is None:
        return (
            f"is not compared with {against.label}: that takes two entries played to their end, "
            "an AUC of each, and more than one user."
        )
    judged = "is not shown to differ from"
    if found["low"] > 0:
        judged = "ranks better than"
    if found["high"] < 0:
        judged = "ranks worse than"
    interval = f"95 % interval {found['low']:+.4f} to {found['high']:+.4f}"
    return f"{judged} {against.label}: AUC {found['mean']:+.4f}, {interval}. {_costs(other)}"


def _costs(entry: Entry) -> str:
    moved = "Its traffic is not known"
    if entry.bytes_per_rec is not None:
        moved = f"It moves {size(entry.bytes_per_rec)} per recommendation"
    slowest = milliseconds(entry.found["latency_ms"]["p95"])
    modelled = ""
    if MOBILE in entry.modelled:
        modelled = f", and {milliseconds(entry.modelled[MOBILE]['p95'])} as modelled on {MOBILE}"
    return f"{moved}; 95 % of its rankings took at most {slowest} here{modelled}."


def _log(run: RunData) -> str:
    return str(run.scenario["log"]).replace("\\", "/").rpartition("/")[2]


def _listed(names: Sequence[str]) -> str:
    *some, last = names or [""]
    return f"{', '.join(some)} and {last}" if some else last


def _machine(about: Mapping[str, Any]) -> str:
    cores = about.get("cpus")
    return f"a machine with {count(cores, 'processor core')}" if cores else "an unknown machine"


def _providers(about: Mapping[str, Any]) -> list[str]:
    found = (device.get("provider") or "" for device in about.get("devices", []))
    return sorted({re.sub("ExecutionProvider$", "", name) for name in found} - {""})


def _memory(processes: Sequence[Mapping[str, Any]]) -> str:
    sizes = [process["resident_bytes"] for process in processes if process.get("resident_bytes")]
    return f"{len(sizes)}, with at most {size(max(sizes))} of memory at the end" if sizes else ""
