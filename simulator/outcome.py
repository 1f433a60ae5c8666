"""What remains of a run when its scores are written down: metrics by user, times and traffic."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from protos.v1.simulation_pb2 import RunDone, UserCount
from shared_models.contract.metrics import Float64Array, UserMetric, evaluate
from shared_models.contract.tensors import Float32Array
from simulator.groups import Group, by_activity, by_span, by_staleness
from simulator.ledger import Ledger
from simulator.modelled import modelled_of
from simulator.releases import Delivery, deliveries
from simulator.replay import Account
from simulator.runs import Run
from simulator.split import Split, split_of
from simulator.wire import CONNECTIONS, connection_rows, reconciliation


@dataclass(frozen=True, slots=True)
class Outcome:
    """One (entry, seed), played.

    Attributes:
        method: label of the entry: a method, or a method with settings of its own.
        seed: of the model.
        title: as in ``duet (sasrec, seed 0)``.
        bundle_id: what the devices ran.
        complete: whether the whole log was played; traffic is known only then.
        metrics: by name.
        by_activity: the same by how active users are.
        by_staleness: the same by how old overlays were.
        by_release: the same between the moments at which any entry gets another bundle.
        deliveries: what each of these spans cost.
        sources: how many rankings were made with what.
        asks: rankings for which the cloud was asked, answered or not.
        latencies: float32, measured seconds of each ranking.
        learning: float32, measured seconds of learning after each ranking.
        accounts: the last word of each device process.
        seconds: measured, of the whole replay.
        split: where the time of its rankings went.
        modelled: by link, float64 seconds of each ranking as `simulator.modelled` has them.
        connections: as `CONNECTIONS` has them.
        reconciled: whether devices and cloud counted the same, or why that is not known.
        in_flight: most asks that a device process had under way on a connection.
        faults: what was done to it on purpose, as `Drill.told`; None: nothing.
    """

    method: str
    seed: int
    title: str
    bundle_id: str
    complete: bool
    metrics: Mapping[str, UserMetric]
    by_activity: tuple[Group, ...]
    by_staleness: tuple[Group, ...]
    by_release: tuple[Group, ...]
    deliveries: tuple[Delivery, ...]
    sources: Mapping[str, int]
    asks: int
    latencies: Float32Array
    learning: Float32Array
    accounts: tuple[Account, ...]
    seconds: float
    split: Split
    modelled: Mapping[str, Float64Array]
    connections: pl.DataFrame
    reconciled: str
    in_flight: int
    faults: Mapping[str, Any] | None = None

    @property
    def retries(self) -> int:
        """Streams to the cloud that broke while something was expected of them."""
        return sum(account.done.streams.broken for account in self.accounts)

    @property
    def recommendations(self) -> int:
        """Completed rankings, stale and default ones included."""
        return len(self.latencies)

    @property
    def state_bytes(self) -> list[int]:
        """What each device kept for its user at the run's end: slot values and learning's own."""
        return [kept.count for account in self.accounts for kept in account.done.state_bytes]


def outcome_of(run: Run, users: int, rankings: pl.DataFrame, cuts: Sequence[int] = (0,)) -> Outcome:
    """What ``run`` found until now, over a log of ``users`` users.

    Args:
        run: the run.
        users: of the log.
        rankings: the run's, with the cloud's times.
        cuts: moments, from 0, from which on an entry may run another bundle.
    """
    tally = run.replay.tally
    spans = list(pairwise([*cuts, len(tally.ranked)])) if len(cuts) > 1 else []
    return Outcome(
        method=run.label,
        seed=run.seed,
        title=run.title,
        bundle_id=run.trained.bundle.id,
        complete=bool(run.accounts),
        metrics=evaluate(tally.evaluated(), users),
        by_activity=by_activity(rankings, users),
        by_staleness=by_staleness(rankings, users),
        by_release=by_span(rankings, np.flatnonzero(tally.ranked), spans, users),
        deliveries=deliveries(run.replay, spans),
        sources=tally.source_counts(),
        asks=tally.asked,
        latencies=tally.seconds[tally.ranked],
        learning=tally.learning_seconds[tally.ranked],
        accounts=tuple(run.accounts),
        seconds=run.seconds,
        split=split_of(rankings),
        modelled=modelled_of(rankings),
        connections=_connections(run),
        reconciled=reconciliation(run.accounts, run.cloud),
        in_flight=run.in_flight,
        faults=run.drill.told if run.drill else None,
    )


def _connections(run: Run) -> pl.DataFrame:
    rows = [
        (run.label, run.seed, *row)
        for row in connection_rows(run.accounts, run.cloud, run.in_flight)
    ]
    return pl.DataFrame(rows, schema=CONNECTIONS, orient="row")


def connections_of(outcomes: Sequence[Outcome]) -> pl.DataFrame:
    """The connections of some runs."""
    return pl.concat([outcome.connections for outcome in outcomes])


def ledger_of(*outcomes: Outcome) -> Ledger:
    """The traffic of some runs."""
    ledger = Ledger()
    for outcome in outcomes:
        for account in outcome.accounts:
            ledger.add(outcome.method, outcome.seed, account.done.traffic, outcome.in_flight)
    return ledger


def learned(outcomes: Iterable[Outcome]) -> pl.DataFrame:
    """Steps of learning that each user's device took: method, seed, user, steps."""
    return _by_user(outcomes, "steps", lambda done: done.learning_steps)


def observed(outcomes: Iterable[Outcome]) -> pl.DataFrame:
    """Events that each user's device handed to its outbox: method, seed, user, events."""
    return _by_user(outcomes, "events", lambda done: done.observed)


def _by_user(
    outcomes: Iterable[Outcome], name: str, told: Callable[[RunDone], Iterable[UserCount]]
) -> pl.DataFrame:
    """What devices told of their users, one number for each."""
    rows = [
        (outcome.method, outcome.seed, entry.user, entry.count)
        for outcome in outcomes
        for account in outcome.accounts
        for entry in told(account.done)
    ]
    schema = {"method": pl.String, "seed": pl.Int64, "user": pl.Int64, name: pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("method", "seed", "user")
