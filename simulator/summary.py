"""What an experiment found, as one JSON document and as a table.

Everything outside ``latency_ms`` and ``measured`` is the same to the last bit whenever the same
scenario and seeds are played, however many device processes play it.
"""

import math
from collections.abc import Sequence
from dataclasses import fields
from itertools import combinations
from typing import Any, Final

import numpy as np
from rich.table import Table

from shared_models.contract.metrics import (
    Interval,
    UserMetric,
    bootstrap_interval,
    mean_over_seeds,
    paired_difference,
)
from shared_models.contract.traffic import APART, PAYLOAD
from simulator.ledger import Bytes
from simulator.outcome import Outcome, connections_of, ledger_of
from simulator.split import Split

SHOWN: Final = {"AUC": "auc", "GAUC": "gauc", "HR@10": "hr@10", "NDCG@10": "ndcg@10"}
Json = dict[str, Any]


def summarise(protocol: str, outcomes: Sequence[Outcome]) -> Json:
    """The content of ``metrics.json``.

    Args:
        protocol: how the figures were taken.
        outcomes: of all runs. One that was cut short counts only where its method has no other.
    """
    counted = {name: _counted(outcomes, name) for name in dict.fromkeys(o.method for o in outcomes)}
    comparable = [name for name, runs in counted.items() if all(run.complete for run in runs)]
    return {
        "protocol": protocol,
        "methods": {name: _method(runs) for name, runs in counted.items()},
        "differences": {
            f"{later}-{earlier}": _difference(counted[later], counted[earlier])
            for earlier, later in combinations(comparable, 2)
        },
        "totals": {
            "recommendations": sum(outcome.recommendations for outcome in outcomes),
            "bytes": _by_purpose(outcomes, PAYLOAD),
        },
        "measured": {
            "bytes": _by_purpose(outcomes, APART),
            "seconds": {outcome.title: round(outcome.seconds, 3) for outcome in outcomes},
            "framing": {name: _framing(runs) for name, runs in counted.items()},
            "ledgers": {outcome.title: outcome.reconciled for outcome in outcomes},
        },
    }


def table(summary: Json) -> Table:
    """The summary as people read it: a row for each method, 95 % intervals below the figures."""
    shown = Table(box=None)
    shown.add_column("method")
    for column in (*SHOWN, "up/rec", "down/rec", "p50 ms", "p95 ms"):
        shown.add_column(column, justify="right", no_wrap=True)
    for name, found in summary["methods"].items():
        latency = found["latency_ms"]
        shown.add_row(
            name if found["complete"] else f"{name} (cut short)",
            *(_interval_text(found[metric]) for metric in SHOWN.values()),
            *(_number_text(found[f"bytes_{way}_per_rec"], ",.0f", " B") for way in ("up", "down")),
            *(_number_text(latency[quantile], ".2f") for quantile in ("p50", "p95")),
        )
    for pair, found in summary["differences"].items():
        cells = (_interval_text(found[metric], sign="+") for metric in SHOWN.values())
        shown.add_row(pair.replace("-", " - "), *cells)
    return shown


def _counted(outcomes: Sequence[Outcome], method: str) -> list[Outcome]:
    own = [outcome for outcome in outcomes if outcome.method == method]
    return [outcome for outcome in own if outcome.complete] or own[:1]


def _method(runs: Sequence[Outcome]) -> Json:
    return {
        **{name: _over_seeds(runs, name) for name in runs[0].metrics},
        **_bytes_per_recommendation(runs),
        "latency_ms": _latency(runs),
        "sources": {name: sum(run.sources[name] for run in runs) for name in runs[0].sources},
        "recommendations": sum(run.recommendations for run in runs),
        "seeds": [run.seed for run in runs],
        "bundles": [run.bundle_id for run in runs],
        "complete": all(run.complete for run in runs),
    }


def _over_seeds(runs: Sequence[Outcome], name: str) -> Json:
    by_seed = [run.metrics[name] for run in runs]
    if not _is_defined(by_seed):
        return dict.fromkeys(("mean", "sd", "low", "high"))
    # One seed has no spread, and none is made up.
    sd = float(np.std([metric.value for metric in by_seed], ddof=1)) if len(runs) > 1 else None
    return {**_interval(bootstrap_interval(mean_over_seeds(by_seed))), "sd": sd}


def _difference(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> Json:
    found: Json = {}
    for name in ours[0].metrics:
        sides = [[run.metrics[name] for run in runs] for runs in (ours, theirs)]
        if all(map(_is_defined, sides)):
            found[name] = _interval(paired_difference(*map(mean_over_seeds, sides)))
        else:
            found[name] = dict.fromkeys(("mean", "low", "high"))
    return found


def _is_defined(metrics: Sequence[UserMetric]) -> bool:
    return all(metric.denominator_U.sum() > 0 for metric in metrics)


def _interval(interval: Interval) -> Json:
    ends = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {name: value if math.isfinite(value) else None for name, value in ends.items()}


def _bytes_per_recommendation(runs: Sequence[Outcome]) -> Json:
    if not all(run.complete for run in runs):
        return {"bytes_up_per_rec": None, "bytes_down_per_rec": None}
    total = ledger_of(*runs).total(*PAYLOAD)
    recommendations = sum(run.recommendations for run in runs)
    return {
        "bytes_up_per_rec": total.up / recommendations,
        "bytes_down_per_rec": total.down / recommendations,
    }


def _by_purpose(outcomes: Sequence[Outcome], purposes: Sequence[str]) -> Json:
    ledger = ledger_of(*outcomes)
    return {purpose: _both(ledger.total(purpose)) for purpose in purposes}


def _both(total: Bytes) -> Json:
    return {"up": total.up, "down": total.down}


def _latency(runs: Sequence[Outcome]) -> Json:
    seconds = np.concatenate([run.latencies for run in runs])
    p50, p95 = np.quantile(seconds, [0.5, 0.95]) * 1000
    parts = {
        part.name: _per_recommendation(runs, [getattr(run.split, part.name) for run in runs], 1000)
        for part in fields(Split)
    }
    return {"p50": float(p50), "p95": float(p95), "split": parts}


def _framing(runs: Sequence[Outcome]) -> Json:
    """Bytes per recommendation: what TCP carried, what of it was payload, and what was predicted.

    Bundles and hellos are part of it, because they crossed the same connections.
    """
    found = connections_of(runs)
    return {
        what: {
            way: _per_recommendation(runs, found[f"{what}_{way}"].to_list() or [None])
            for way in ("up", "down")
        }
        for what in ("kernel", "payload", "framing", "predicted")
    }


def _per_recommendation(
    runs: Sequence[Outcome], sums: Sequence[float | None], scale: float = 1
) -> float | None:
    """The mean over all recommendations; None where a part of the sum is not known."""
    known = [value for value in sums if value is not None]
    if len(known) < len(sums):
        return None
    return scale * sum(known) / sum(run.recommendations for run in runs)


def _interval_text(found: Json, sign: str = "") -> str:
    """The estimate, and its interval in the line below."""
    if None in (found["mean"], found["low"], found["high"]):
        return "-"
    return f"{found['mean']:{sign}.4f}\n{found['low']:{sign}.3f}..{found['high']:{sign}.3f}"


def _number_text(number: float | None, form: str, unit: str = "") -> str:
    return "-" if number is None or math.isnan(number) else f"{number:{form}}{unit}"
