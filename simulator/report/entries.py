"""What a run compares: its entries, numbered, with what is known of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from simulator.entries import Entry as Played
from simulator.entries import read_entry
from simulator.report.figures import MODELLED, links
from simulator.report.run_data import Json, RunData
from simulator.scenario import ReplaySettings

_ROUND: Final = "replay.round_events="


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the comparison.

    Attributes:
        number: from 1; stands for the entry in charts.
        label: its name.
        found: what ``metrics.json`` says of it.
        modelled: by link, modelled ms that half and that 95 % of its rankings took at most.
        round_events: moments in a round of its replay.
        family: what it is besides; entries of a family differ in their rounds alone.
    """

    number: int
    label: str
    found: Json
    modelled: dict[str, Json]
    round_events: int
    family: str

    @property
    def bytes_per_rec(self) -> float | None:
        """Payload in both directions; None where it is not known."""
        up, down = self.found["bytes_up_per_rec"], self.found["bytes_down_per_rec"]
        return None if up is None or down is None else up + down


def entries(run: RunData) -> list[Entry]:
    """What was played, in its order."""
    methods = run.metrics["methods"]
    return [
        Entry(number, label, methods[label], _modelled(run, label), *_rounds(run, label))
        for number, label in enumerate(run.entries, 1)
    ]


def reference(run: RunData, shown: Sequence[Entry]) -> Entry:
    """What the others are held against: what the scenario names first, or else the first one."""
    named = run.scenario.get("against") or [shown[0].label]
    return next((entry for entry in shown if entry.label == named[0]), shown[0])


def _rounds(run: RunData, label: str) -> tuple[int, str]:
    """Moments in a round of an entry, and what it is besides."""
    length = run.scenario.get("replay", {}).get("round_events", ReplaySettings().round_events)
    played = [read_entry(text) for text in run.scenario.get("methods", ())]
    entry = next((own for own in played if own.label == label), Played(label, label))
    others = [text for text in entry.assignments if not text.startswith(_ROUND)]
    own = [text.removeprefix(_ROUND) for text in entry.assignments if text.startswith(_ROUND)]
    return int(own[-1]) if own else length, ",".join([entry.method, *sorted(others)])


def _modelled(run: RunData, label: str) -> dict[str, Json]:
    """As ``metrics.json`` has it, or else from the rankings."""
    told: dict[str, Json] | None = run.metrics["methods"][label].get("modelled_ms")
    if told:
        return told
    own = run.rankings.filter(entry=label)
    found = {}
    for link in links(own):
        seconds = own[MODELLED + link].drop_nulls()
        if len(seconds):
            found[link] = {
                name: 1000 * float(seconds.quantile(level, "linear") or 0)
                for name, level in (("p50", 0.5), ("p95", 0.95))
            }
    return found
