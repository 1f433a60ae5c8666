"""Who gains, by how popular what they took is: metrics of a played run, by its events in training.

A ranking belongs to the bucket of the item that was taken. Figures are means over seeds, and
differences are paired by user over the seed-averaged metrics, with 95 % intervals over users.

    python -m bench.popularity runs/item-graph [--against base,shuffled] [--log movielens-100k]
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from shared_models.contract.metrics import (
    UserMetric,
    evaluate,
    mean_over_seeds,
    paired_difference,
)
from shared_models.logs.prepare import Columns, open_or_prepare
from shared_models.logs.prepared import PreparedLog, taken
from simulator.groups import ranked
from simulator.report import load_run

BUCKETS: Final = ((0, 10), (11, 50), (51, 150), (151, None))
"""Events of the item taken in the training part: from, to."""
SHOWN: Final = ("auc", "hr@10", "ndcg@10")
Found = Mapping[str, UserMetric]


def by_popularity(
    rankings: pl.DataFrame, log: PreparedLog
) -> dict[tuple[int, int | None], pl.DataFrame]:
    """Rankings of one (entry, seed) by bucket of the item taken; none is left out."""
    counts = taken(log.train).group_by("item").agg(events=pl.len())
    of_moment = log.test.select("user", "seq", "item").join(counts, on="item", how="left")
    keys = of_moment.select(
        pl.col("user").cast(pl.Int64), pl.col("seq").cast(pl.Int64), pl.col("events").fill_null(0)
    )
    known = rankings.with_columns(pl.col("user", "seq").cast(pl.Int64)).join(
        keys, on=["user", "seq"], how="left", maintain_order="left"
    )
    events = pl.col("events")
    return {
        (low, high): known.filter(events >= low if high is None else events.is_between(low, high))
        for low, high in BUCKETS
    }


def main() -> int:
    options = _options()
    log = open_or_prepare(options.log, Columns(), options.split)
    found: dict[tuple[int, int | None], dict[str, list[Found]]] = {b: {} for b in BUCKETS}
    sizes: dict[tuple[int, int | None], int] = {}
    rankings = load_run(options.run).rankings
    for (entry, _), own in rankings.group_by("entry", "seed", maintain_order=True):
        for bucket, part in by_popularity(own, log).items():
            sizes[bucket] = len(part)
            metrics = evaluate(ranked(part), log.users)
            found[bucket].setdefault(str(entry), []).append(metrics)
    for (low, high), entries in found.items():
        print(f"taken item with {low} to {high or 'more'} events: {sizes[low, high]:,} rankings")
        _print_bucket(entries, options.against)
    return 0


def _print_bucket(entries: Mapping[str, Sequence[Found]], against: Sequence[str]) -> None:
    means = {
        entry: {name: mean_over_seeds([metrics[name] for metrics in seeds]) for name in SHOWN}
        for entry, seeds in entries.items()
    }
    for entry, metrics in means.items():
        print(f"  {entry}: " + ", ".join(f"{n} {metrics[n].value:.4f}" for n in SHOWN))
        for other in against:
            if other != entry:
                print(f"    minus {other}: " + _gaps(metrics, means[other]))


def _gaps(ours: Found, theirs: Found) -> str:
    """In points, x 100."""
    gaps = {name: paired_difference(ours[name], theirs[name]) for name in SHOWN}
    return ", ".join(
        f"{name} {100 * gap.mean:+.2f} [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"
        for name, gap in gaps.items()
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--against", type=lambda s: s.split(","), default=["base"])
    parser.add_argument("--log", default="movielens-100k")
    parser.add_argument("--split", default="user-tail")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
