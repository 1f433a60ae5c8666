"""What DUET gives over base on MovieLens-100K: replayed on devices, three seeds, three trunks.

Every rating is a positive; user-tail split 70/10/20; window 10; 1 + 99 never-touched candidates.
One recipe, chosen for base on validation, trains all. Overlays are 0, 5 and 20 events old; the
ablation trained on fresh overlays only is refreshed before every event. Each figure comes out of
the replay and is compared with torch alone on the same moments.

    python -m bench.quality [--trunks sasrec,gru4rec,din] [--seeds 0,1,2] [--out runs/quality]

Finished parts are kept under --out and not played again.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shared_models.contract.metrics import (
    Ranked,
    UserMetric,
    evaluate,
    mean_over_seeds,
    paired_difference,
)
from shared_models.logs.moments import Moments, replay_moments
from shared_models.logs.prepare import Columns, cache_root, open_or_prepare
from shared_models.logs.prepared import PreparedLog
from simulator.cache import entry_key, resolve
from simulator.compose import compose

LOG = "movielens-100k"
SHOWN = ("auc", "uauc", "gauc", "hr@10", "ndcg@10")


@dataclass(frozen=True)
class Variant:
    """A row of the table: a method, how it was trained, and how old its overlays are."""

    title: str
    method: str
    training: tuple[str, ...] = ()
    age: int = 0

    @property
    def settings(self) -> list[str]:
        lag = [f"device.uplink_lag={self.age}"] if self.age else []
        return [part for setting in (*self.training, *lag) for part in ("--set", setting)]


VARIANTS = (
    Variant("base", "base"),
    Variant("duet, 0 events old", "duet"),
    Variant("duet, 5 events old", "duet", age=5),
    Variant("duet, 20 events old", "duet", age=20),
    Variant("duet fresh-only, 0 old", "duet", ("duet.max_lag=0",)),
)


def main() -> None:
    options = _options()
    log = open_or_prepare(LOG, Columns(), "user-tail")
    moments = replay_moments(log)
    for trunk in options.trunks:
        found: dict[str, UserMetric] = {}
        for variant in VARIANTS:
            folder = options.out / trunk / variant.title.replace(" ", "-").replace(",", "")
            if not (folder / "metrics.json").is_file():
                _play(variant, trunk, options.seeds, folder)
            by_seed = [_metrics(folder, variant, seed, log, moments) for seed in options.seeds]
            _print_row(trunk, variant, by_seed, found, folder)
            off = [
                abs(metrics["auc"].value - _torch_auc(variant, trunk, seed, log))
                for seed, metrics in zip(options.seeds, by_seed, strict=True)
            ]
            print(f"    torch alone: AUC differs by at most {max(off):.1e}", flush=True)


def _play(variant: Variant, trunk: str, seeds: Sequence[int], folder: Path) -> None:
    where = ["--log", LOG, "--trunk", trunk, "--seeds", ",".join(map(str, seeds))]
    command = ["run", "--method", variant.method, *where, "--out", str(folder), *variant.settings]
    subprocess.run([sys.executable, "-m", "simulator.cli", *command], check=True)


def _metrics(
    folder: Path, variant: Variant, seed: int, log: PreparedLog, moments: Moments
) -> dict[str, UserMetric]:
    rankings = pl.read_parquet(folder / f"rankings-{variant.method}-{seed}.parquet")
    scores = rankings["scores"].explode().to_numpy()
    return evaluate(Ranked(moments.user, moments.sizes, moments.labels, scores), log.users)


def _torch_auc(variant: Variant, trunk: str, seed: int, log: PreparedLog) -> float:
    """The test AUC of the same model by torch alone, with overlays of the same age."""
    scenario = compose(
        None,
        {"methods": [variant.method], "trunk": trunk, "log": LOG},
        variant.training,
    )
    resolved = resolve(scenario, variant.method)
    model = cache_root() / "trained" / entry_key(resolved, log.hash, "user-tail", seed)
    where = ["--log", str(log.folder), "--seed", str(seed), "--age", str(variant.age)]
    command = ["evaluate", *resolved.arguments, *where, "--out", str(model)]
    subprocess.run(
        [sys.executable, "-m", "cloud_server.cli", *command],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return float(json.loads((model / "metrics.json").read_text())["auc"]["mean"])


def _print_row(
    trunk: str,
    variant: Variant,
    by_seed: Sequence[dict[str, UserMetric]],
    found: dict[str, Any],
    folder: Path,
) -> None:
    cells = [
        f"{np.mean(v):.4f}±{np.std(v, ddof=1) if len(v) > 1 else 0:.4f}" for v in _values(by_seed)
    ]
    print(f"| {trunk} | {variant.title} | {' | '.join(cells)} |", flush=True)
    averaged = {name: mean_over_seeds([metrics[name] for metrics in by_seed]) for name in SHOWN}
    if variant.method == "base":
        found.update(averaged)
        return
    for name in SHOWN:
        gap = paired_difference(averaged[name], found[name])
        low, high = 100 * gap.low, 100 * gap.high
        print(f"    {name}: {100 * gap.mean:+.2f} points over base [{low:+.2f}, {high:+.2f}]")
    bundle = json.loads((folder / "metrics.json").read_text())["methods"][variant.method]
    up, down = bundle["bytes_up_per_rec"], bundle["bytes_down_per_rec"]
    print(f"    {up:.0f} B up, {down:.0f} B down a recommendation", flush=True)


def _values(by_seed: Sequence[dict[str, UserMetric]]) -> Iterator[list[float]]:
    for name in SHOWN:
        yield [metrics[name].value for metrics in by_seed]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--trunks", type=lambda s: s.split(","), default=["sasrec", "gru4rec", "din"]
    )
    parser.add_argument("--seeds", type=lambda s: [int(x) for x in s.split(",")], default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
