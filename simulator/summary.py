"""What an experiment found, as one JSON document and as a table.

Everything outside ``latency_ms`` and ``measured`` is the same to the last bit whenever the same
scenario and seeds are played, however many device processes play it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

import numpy as np
from rich.markup import escape
from rich.table import Table

from shared_models.contract.metrics import (
    UserMetric,
    bootstrap_interval,
    mean_over_seeds,
    paired_difference,
)
from shared_models.contract.traffic import APART, PAYLOAD
from simulator.groups import as_json, over_seeds
from simulator.ledger import Bytes
from simulator.outcome import Outcome, connections_of, ledger_of
from simulator.releases import over_runs
from simulator.split import Split

SHOWN: Final = {"AUC": "auc", "GAUC": "gauc", "HR@10": "hr@10", "NDCG@10": "ndcg@10"}
Json = dict[str, Any]


def summarise(protocol: str, outcomes: Sequence[Outcome], references: Sequence[str] = ()) -> Json:
    """The content of ``metrics.json``.

    Args:
        protocol: how the figures were taken.
        outcomes: of all runs. One that was cut short counts only where its method has no other.
        references: labels of those that every other one is compared with; none of them played to
            its end: the first that was.
    """
    counted = {name: _counted(outcomes, name) for name in dict.fromkeys(o.method for o in outcomes)}
    comparable = [name for name, runs in counted.items() if all(run.complete for run in runs)]
    named = [label for label in references if label in comparable] or comparable[:1]
    return {
        "protocol": protocol,
        "methods": {name: _method(runs) for name, runs in counted.items()},
        "differences": {
            f"{ours}-{theirs}": {
                "entry": ours,
                "against": theirs,
                **_difference(counted[ours], counted[theirs]),
            }
            for ours, theirs in _pairs(comparable, named)
        },
        "totals": {
            "recommendations": sum(outcome.recommendations for outcome in outcomes),
            "bytes": _by_purpose(outcomes, PAYLOAD),
        },
        "measured": {
            "bytes": _by_purpose(outcomes, APART),
            "seconds": {outcome.title: round(outcome.seconds, 3) for outcome in outcomes},
            "learning_ms": {name: _learning(runs) for name, runs in counted.items()},
            "framing": {name: _framing(runs) for name, runs in counted.items()},
            "ledgers": {outcome.title: outcome.reconciled for outcome in outcomes},
            "faults": {o.title: _faults(o, o.faults) for o in outcomes if o.faults},
        },
    }


def table(summary: Json) -> Table:
    """The summary as people read it: a row for each entry, 95 % intervals below the figures.

    What learning costs stands there where somebody learns.
    """
    learning = summary["measured"]["learning_ms"]
    somebody_learns = any(spent["mean"] for spent in learning.values())
    shown = Table(box=None)
    shown.add_column("method", min_width=12, overflow="fold")
    costs = ("asks", "up/rec", "down/rec", "p50 ms", "p95 ms")
    for column in (*SHOWN, *costs, *(("learn ms", "state") if somebody_learns else ())):
        shown.add_column(column, justify="right", no_wrap=True)
    for name, found in summary["methods"].items():
        latency, state = found["latency_ms"], found["state_bytes_per_device"]
        learned = (_number_text(learning[name]["mean"], ".2f"), _number_text(state, ",.0f", " B"))
        shown.add_row(
            escape(name if found["complete"] else f"{name} (cut short)"),
            *(_interval_text(found[metric]) for metric in SHOWN.values()),
            _number_text(found["asks_per_rec"], ".0%"),
            *(_number_text(found[f"bytes_{way}_per_rec"], ",.0f", " B") for way in ("up", "down")),
            *(_number_text(latency[quantile], ".2f") for quantile in ("p50", "p95")),
            *(learned if somebody_learns else ()),
        )
    for found in summary["differences"].values():
        cells = (_interval_text(found[metric], sign="+") for metric in SHOWN.values())
        shown.add_row(escape(f"{found['entry']} - {found['against']}"), *cells)
    return shown


def _pairs(labels: Sequence[str], references: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each label beside each reference; two references beside each other once."""
    for theirs in references:
        for ours in labels:
            earlier = references[: references.index(theirs)]
            if theirs in labels and ours != theirs and ours not in earlier:
                yield ours, theirs


def _counted(outcomes: Sequence[Outcome], method: str) -> list[Outcome]:
    own = [outcome for outcome in outcomes if outcome.method == method]
    return [outcome for outcome in own if outcome.complete] or own[:1]


def _method(runs: Sequence[Outcome]) -> Json:
    return {
        **{name: _over_seeds(runs, name) for name in runs[0].metrics},
        **_bytes_per_recommendation(runs),
        "latency_ms": _latency(runs),
        "modelled_ms": _modelled(runs),
        "asks_per_rec": sum(run.asks for run in runs) / sum(run.recommendations for run in runs),
        "state_bytes_per_device": _state(runs),
        "by_activity": over_seeds([run.by_activity for run in runs]),
        "by_staleness": over_seeds([run.by_staleness for run in runs]),
        "by_release": over_runs([run.by_release for run in runs], [run.deliveries for run in runs]),
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
    metric = mean_over_seeds(by_seed)
    return {**as_json(bootstrap_interval(metric), metric), "sd": sd}


def _difference(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> Json:
    """Over the seeds that both have, since models of other seeds differ by chance too."""
    found: Json = {}
    both = {run.seed for run in ours} & {run.seed for run in theirs}
    for name in ours[0].metrics:
        sides = [[run.metrics[name] for run in runs if run.seed in both] for runs in (ours, theirs)]
        if both and all(map(_is_defined, sides)):
            our, their = map(mean_over_seeds, sides)
            found[name] = as_json(paired_difference(our, their), our)
        else:
            found[name] = dict.fromkeys(("mean", "low", "high"))
    return found


def _is_defined(metrics: Sequence[UserMetric]) -> bool:
    return all(metric.denominator_U.sum() > 0 for metric in metrics)


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


def _modelled(runs: Sequence[Outcome]) -> Json:
    """By link; links of which no ranking is known are left out."""
    found = {}
    for link in runs[0].modelled:
        seconds = np.concatenate([run.modelled[link] for run in runs])
        if len(seconds):
            p50, p95 = np.quantile(seconds, [0.5, 0.95]) * 1000
            found[link] = {"p50": float(p50), "p95": float(p95)}
    return found


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


def _learning(runs: Sequence[Outcome]) -> Json:
    """Per recommendation, those after which nothing was learned included."""
    spent = np.concatenate([run.learning for run in runs]).astype(float) * 1000
    return {"mean": float(spent.mean()), "p95": float(np.quantile(spent, 0.95))}


def _faults(outcome: Outcome, told: Mapping[str, Any]) -> Json:
    return {
        **told,
        "stale": outcome.sources["stale-overlay"],
        "retries": outcome.retries,
    }


def _state(runs: Sequence[Outcome]) -> float | None:
    if not all(run.complete for run in runs):
        return None
    return float(np.mean([kept for run in runs for kept in run.state_bytes] or [0]))


def _interval_text(found: Json, sign: str = "") -> str:
    """The estimate, and its interval in the line below."""
    if found["mean"] is None:
        return "-"
    mean = f"{found['mean']:{sign}.4f}"
    if found["low"] is None:
        return mean
    return f"{mean}\n{found['low']:{sign}.3f}..{found['high']:{sign}.3f}"


def _number_text(number: float | None, form: str, unit: str = "") -> str:
    return "-" if number is None or math.isnan(number) else f"{number:{form}}{unit}"
