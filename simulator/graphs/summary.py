"""How well nodes were classified: by strength of the shift, and as graphs grew."""

# Shapes: U devices, M nodes, C classes.

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from shared_models.contract.classification import classification, decided
from shared_models.contract.metrics import (
    UserMetric,
    bootstrap_interval,
    mean_over_seeds,
    paired_difference,
)
from simulator.graphs.replay import GraphReplay

Json = dict[str, Any]
METRICS = ("accuracy", "micro_f1", "macro_f1")


@dataclass(frozen=True, slots=True)
class Group:
    """The devices of one strength, as one run of one entry found them at one step.

    Attributes:
        metrics: by name.
        by_device: accuracy and micro-F1 as sums over devices, for intervals.
        nodes: classified ones.
    """

    metrics: Mapping[str, float]
    by_device: Mapping[str, UserMetric]
    nodes: int


def group_of(replay: GraphReplay, strength: float, step: int) -> Group:
    """What the devices of ``strength`` said at ``step``."""
    users = [holding.user for holding in replay.holdings if holding.strength == strength]
    multi_label = replay.graph.multi_label
    scores = [replay.said[step, user] for user in users]
    labels = [replay.graph.labels_NC[replay.asked(user, step)] for user in users]
    said = [decided(each, multi_label=multi_label) for each in scores]
    pairs = [(own, true > 0) for own, true in zip(said, labels, strict=True)]
    right_U = np.array([(own == true).all(1).sum() for own, true in pairs], np.float64)
    nodes_U = np.array([len(own) for own, _ in pairs], np.float64)
    hits_U = np.array([2 * (own & true).sum() for own, true in pairs], np.float64)
    counted_U = np.array([own.sum() + true.sum() for own, true in pairs], np.float64)
    return Group(
        classification(np.concatenate(scores), np.concatenate(labels), multi_label=multi_label),
        {"accuracy": UserMetric(right_U, nodes_U), "micro_f1": UserMetric(hits_U, counted_U)},
        int(nodes_U.sum()),
    )


def by_shift(runs: Mapping[str, Sequence[GraphReplay]]) -> list[Json]:
    """A row for each entry and strength at the last step: means over seeds, intervals over devices.

    Args:
        runs: of each entry, one a seed; the first entry is what others are compared with. Those
            that were cut short are left out.
    """
    runs = {
        entry: whole
        for entry, replays in runs.items()
        if (whole := [replay for replay in replays if replay.played == replay.steps])
    }
    if not runs:
        return []
    rows, first = [], next(iter(runs))
    for strength in _strengths(runs[first]):
        groups = {
            entry: [group_of(replay, strength, replay.steps - 1) for replay in replays]
            for entry, replays in runs.items()
        }
        rows += [
            {
                "entry": entry,
                "strength": strength,
                "nodes": own[0].nodes,
                **_figures(own),
                **({} if entry == first else {"gain": _gain(own, groups[first])}),
            }
            for entry, own in groups.items()
        ]
    return rows


def by_step(runs: Mapping[str, Sequence[GraphReplay]]) -> list[Json]:
    """A row for each entry, strength and step: means over the seeds that came so far."""
    return [
        {
            "entry": entry,
            "strength": strength,
            "step": step + 1,
            "nodes": groups[0].nodes,
            **{name: _mean(groups, name) for name in METRICS},
        }
        for entry, replays in runs.items()
        for strength in _strengths(replays)
        for step in range(max(replay.played for replay in replays))
        for groups in [
            [group_of(replay, strength, step) for replay in replays if step < replay.played]
        ]
    ]


def milliseconds(replays: Sequence[GraphReplay]) -> Json:
    """What a classification took on a device, measured."""
    seconds = np.array([each for replay in replays for each in replay.seconds.values()])
    return {f"p{level}": float(1e3 * np.percentile(seconds, level)) for level in (50, 95)}


def _strengths(replays: Sequence[GraphReplay]) -> list[float]:
    return list(dict.fromkeys(holding.strength for holding in replays[0].holdings))


def _figures(groups: Sequence[Group]) -> Json:
    found: Json = {name: {"mean": _mean(groups, name)} for name in METRICS}
    for name in groups[0].by_device:
        over = mean_over_seeds([group.by_device[name] for group in groups])
        found[name] = asdict(bootstrap_interval(over))
    return found


def _gain(ours: Sequence[Group], theirs: Sequence[Group]) -> Json:
    """Accuracy over that of the first entry, paired by device, over the seeds that both have.

    Seeds are played in one order: an entry that was cut short lacks the last ones.
    """
    both = min(len(ours), len(theirs))
    sides = (
        mean_over_seeds([group.by_device["accuracy"] for group in side[:both]])
        for side in (ours, theirs)
    )
    return asdict(paired_difference(*sides))


def _mean(groups: Sequence[Group], name: str) -> float:
    return float(np.mean([group.metrics[name] for group in groups]))
