"""What another bundle cost, and from when on it was there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared_models.contract.bundle import pack
from simulator.groups import Bounds, Group, over_seeds
from simulator.replay import Replay

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a span of a replay cost.

    Attributes:
        bounds: first and last moment of the span.
        release: number of the bundle that devices ran then, from 0.
        bundle_bytes: that a device process downloaded for the span; 0 where the bundle was there.
        payload: bytes up and down within the span; None where no round ended at its ends.
    """

    bounds: Bounds
    release: int
    bundle_bytes: int
    payload: tuple[int, int] | None


def deliveries(replay: Replay, spans: Sequence[tuple[int, int]]) -> tuple[Delivery, ...]:
    """What each of ``spans``, first moment and the one after the last, cost so far."""
    return tuple(_delivery(replay, start, stop) for start, stop in spans)


def over_runs(groups: Sequence[Sequence[Group]], costs: Sequence[Sequence[Delivery]]) -> list[Json]:
    """The spans of an entry's seeds as rows of ``metrics.json``."""
    by_bounds: dict[Bounds, list[Delivery]] = {}
    for cost in (cost for own in costs for cost in own):
        by_bounds.setdefault(cost.bounds, []).append(cost)
    return [
        {**row, **_row(by_bounds[row["at_least"], row["at_most"]], row["recommendations"])}
        for row in over_seeds(groups)
    ]


def _delivery(replay: Replay, start: int, stop: int) -> Delivery:
    number = sum(release.first <= start for release in replay.releases) - 1
    release = replay.releases[number]
    size = len(pack(release.bundle)) if release.first == start else 0
    before, after = replay.payload(start), replay.payload(stop)
    spent = (after[0] - before[0], after[1] - before[1]) if before and after else None
    return Delivery((start, stop - 1), number, size, spent)


def _row(costs: Sequence[Delivery], recommendations: int) -> Json:
    spent = [cost.payload for cost in costs if cost.payload is not None]
    up, down = (
        sum(pair[way] for pair in spent) / recommendations if len(spent) == len(costs) else None
        for way in (0, 1)
    )
    return {
        "release": costs[0].release,
        "bundle_bytes": sum(cost.bundle_bytes for cost in costs) / len(costs),
        "bytes_up_per_rec": up,
        "bytes_down_per_rec": down,
    }
