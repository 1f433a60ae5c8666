"""Folders of runs that were never played: whole comparisons, made from arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from protos.v1.simulation_pb2 import Ready, RunDone, Traffic
from shared_models.contract.metrics import evaluate
from simulator.environment import describe
from simulator.groups import by_activity, by_span, by_staleness, ranked
from simulator.modelled import modelled_of
from simulator.outcome import Outcome, ledger_of, observed
from simulator.releases import Delivery
from simulator.replay import Account
from simulator.results import Folder, rankings_name
from simulator.scenario import Scenario, dump
from simulator.split import split_of, with_cloud_times
from simulator.summary import summarise
from simulator.wire import CONNECTIONS

USERS = 200
CANDIDATES = 20
RATES = {"wifi": 40e6, "5g": 80e6, "4g": 12e6, "3g": 1.5e6}


@dataclass(frozen=True)
class Made:
    """What an entry of a made comparison is like.

    Attributes:
        every: it asks the cloud every so many events; 0: never.
        cost: bytes of an answer.
        skill: how far its scores lift what is taken.
        learns: whether it learns on the device.
        settings: of its own, as a scenario has them.
    """

    label: str
    every: int
    cost: int
    skill: float
    learns: bool = False
    settings: str = ""


ENTRIES = (
    Made("base", 0, 0, 1.5),
    Made("duet", 1, 4329, 1.8),
    Made("duet[device.refresh.rule=never]", 0, 0, 1.45),
    Made("duet[device.refresh.rule=every-n, device.refresh.every=10]", 10, 4329, 1.7),
    Made("duet[codec=i8row]", 1, 2300, 1.8),
    Made("duet[codec=latent-i8] <b>&amp;", 1, 96, 1.79),
    Made("finetune", 0, 0, 1.65, learns=True),
    Made("popularity", 0, 0, 1.0),
)


SOME = (ENTRIES[0], ENTRIES[1], ENTRIES[3], ENTRIES[5], ENTRIES[6])


def make_rankings(made: Made, count: int, seed: int, *, modelled: bool) -> pl.DataFrame:
    """Rankings as `Tally.frame` gives them, with the columns that links and the cloud add."""
    rng = np.random.default_rng(seed)
    # Few users do much.
    user = np.sort((USERS * rng.random(count) ** 2).astype(np.int64))
    seq = 10 + user % 90 + np.arange(count) - np.searchsorted(user, user)
    at = np.sort(rng.random(count)) * 86_400 * 30
    age = seq % made.every if made.every else np.full(count, -1)
    asked = age == 0
    scores = rng.standard_normal((count, CANDIDATES)).astype(np.float32)
    taken = rng.integers(0, CANDIDATES, count)
    scores[np.arange(count), taken] += made.skill - 0.01 * np.maximum(age, 0)
    queue, compute = (np.where(asked, rng.exponential(mean, count), 0) for mean in (0.004, 0.002))
    cloud = np.where(asked, queue + compute + 0.001, 0)
    seconds = cloud + rng.exponential(0.0001, count)
    frame = pl.DataFrame(
        {
            "user": user,
            "seq": seq,
            "at": at,
            "rank": 1.0 + (scores > scores[np.arange(count), taken][:, None]).sum(1),
            "source": np.where(
                asked, "overlay", np.where(age > 0, "stale-overlay", "default-weights")
            ),
            "decision": np.where(asked, "refresh", "score"),
            "overlay_age": pl.Series(age).replace(-1, None).cast(pl.UInt32),
            "ask": asked.astype(np.uint32),
            "bytes_up": np.where(asked, 48, 0).astype(np.uint32),
            "bytes_down": np.where(asked, made.cost, 0).astype(np.uint32),
            "exchanges": asked.astype(np.uint8),
            "seconds": seconds.astype(np.float32),
            "cloud_seconds": cloud.astype(np.float32),
            "learning_seconds": np.where(made.learns, rng.exponential(0.001, count), 0),
            "scores": pl.Series(scores, dtype=pl.Array(pl.Float32, CANDIDATES)),
            "taken": pl.Series(taken[:, None], dtype=pl.Array(pl.Int64, 1)),
        }
    )
    if not modelled:
        return frame
    way = {
        f"modelled_{link}": (seconds + asked * (0.02 + 8 * made.cost / rate)).astype(np.float32)
        for link, rate in RATES.items()
    }
    told = {"queue_seconds": queue, "compute_seconds": compute}
    known = [
        pl.Series(name, np.where(asked, value, np.nan)).fill_nan(None)
        for name, value in told.items()
    ]
    return frame.with_columns(*known, **{name: pl.Series(value) for name, value in way.items()})


def make_outcome(
    made: Made,
    rankings: pl.DataFrame,
    seed: int,
    *,
    complete: bool,
    spans: Sequence[tuple[int, int]] = (),
) -> Outcome:
    """What remains of one (entry, seed)."""
    down = int(rankings["bytes_down"].sum())
    traffic = [
        Traffic(user=0, purpose="refresh", bytes_up=48 * rankings.height, bytes_down=down, asks=1),
        Traffic(purpose="bundle", bytes_up=72, bytes_down=97_000, asks=1),
    ]
    has_times = "queue_seconds" in rankings.columns
    told = rankings if has_times else with_cloud_times(rankings, None)
    account = Account(7, Ready(provider="CPUExecutionProvider"), RunDone(traffic=traffic))
    return Outcome(
        method=made.label,
        seed=seed,
        title=f"{made.label} (sasrec, seed {seed})",
        bundle_id="0" * 64,
        complete=complete,
        metrics=evaluate(ranked(rankings), USERS),
        by_activity=by_activity(rankings, USERS),
        by_staleness=by_staleness(rankings, USERS),
        by_release=by_span(rankings, np.arange(len(rankings)), spans, USERS),
        deliveries=tuple(
            Delivery((start, stop - 1), number, 97_000, (4_000, 50_000))
            for number, (start, stop) in enumerate(spans)
        ),
        sources={
            name: rankings.filter(source=name).height for name in ("overlay", "stale-overlay")
        },
        asks=rankings.filter(decision="refresh").height,
        latencies=rankings["seconds"].to_numpy(),
        learning=rankings["learning_seconds"].to_numpy(),
        accounts=(account,) if complete else (),
        seconds=12.5,
        split=split_of(told),
        modelled=modelled_of(rankings),
        connections=pl.DataFrame(schema=CONNECTIONS),
        reconciled="no ledger of the whole run: played under faults, or its cloud was killed",
        in_flight=64,
    )


def make_run(
    out: Path,
    entries: Sequence[Made] = ENTRIES,
    *,
    count: int = 600,
    seeds: Sequence[int] = (0, 1),
    modelled: bool = True,
    complete: bool = True,
    spans: Sequence[tuple[int, int]] = (),
    against: tuple[str, ...] = (),
) -> Path:
    """The folder of a run of ``entries``, each of them ranking ``count`` times with each seed."""
    files, outcomes = Folder(out), []
    for made in entries:
        for seed in seeds:
            rankings = make_rankings(made, count, seed, modelled=modelled)
            outcomes.append(make_outcome(made, rankings, seed, complete=complete, spans=spans))
            whose = {"entry": made.label, "seed": str(seed)}
            files.parquet(rankings_name(made.label, seed), rankings, whose)
    methods = tuple(f"{made.label}: duet{made.settings}" for made in entries)
    protocol = "made, next-item, user-tail; the split leaks: nothing, it is made up"
    files.parquet("ledger.parquet", ledger_of(*outcomes).frame())
    files.parquet("observed.parquet", observed(outcomes))
    scenario = Scenario(methods=methods, seeds=tuple(seeds), log="made", against=against)
    files.text("scenario.yaml", dump(scenario))
    files.json("environment.json", describe({1: 300_000_000}, outcomes[0].accounts))
    files.json("metrics.json", summarise(protocol, outcomes, scenario.references))
    return out


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of five entries with two seeds."""
    return make_run(tmp_path_factory.mktemp("compared"), SOME)
