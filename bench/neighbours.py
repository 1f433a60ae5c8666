"""Neighbour lists of a large log: seconds and memory, beside the sparse products of scipy alone.

    python -m bench.neighbours [--events 20000000] [--users 100000] [--items 50000] [--count 64]

Users are drawn uniformly, items by Zipf's law with exponent 1. What a user takes again is in the
log, and counts once in the lists: of 20 million events about 14.7 million pairs remain. Memory is
the largest that the process ever had, the log and what drew it included. The peer multiplies the
same sets and weights block by block, for a sample of the users, and chooses nobody.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

from shared_models.logs.neighbours import neighbours

SECONDS, BYTES = 60.0, 2e9
MOST_USERS = 2000
BLOCK, BLOCKS = 64, 16


@dataclass(frozen=True, slots=True)
class Spent:
    """What some work took, on the clock and on processors."""

    seconds: float
    cpu_seconds: float

    @classmethod
    def on(cls, work: Callable[[], object]) -> "Spent":
        start, cpu_start = time.perf_counter(), time.process_time()
        work()
        return cls(time.perf_counter() - start, time.process_time() - cpu_start)


def zipf_log(events: int, users: int, items: int, seed: int = 0) -> pl.DataFrame:
    """``user`` and ``item``, in no order."""
    rng = np.random.default_rng(seed)
    share = np.cumsum(1 / np.arange(1, items + 1))
    item = np.searchsorted(share, rng.random(events) * share[-1]).astype(np.int32) + 1
    return pl.DataFrame({"user": rng.integers(0, users, events, np.int32), "item": item})


def scipy_product(log: pl.DataFrame, users: int, items: int) -> Callable[[], None]:
    """A product of `BLOCKS` blocks of users with all users."""
    pairs = log.unique()
    pairs = pairs.filter(pl.len().over("item") <= MOST_USERS)
    place = (pairs["user"].to_numpy(), pairs["item"].to_numpy())
    sets = sparse.csr_array((np.ones(len(pairs)), place), (users, items + 1))
    weighted = sets.T.tocsr()

    def multiply() -> None:
        for start in range(0, BLOCK * BLOCKS, BLOCK):
            sets[start : start + BLOCK] @ weighted

    return multiply


def main() -> int:
    options = _options()
    users, items = options.users, options.items
    log = zipf_log(options.events, users, items)
    ours = Spent.on(lambda: neighbours(log, users, items, options.count, most_users=MOST_USERS))
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peer = Spent.on(scipy_product(log, users, items))
    products = peer.cpu_seconds * users / min(users, BLOCK * BLOCKS)
    print(
        f"{options.events:,} events, {users:,} users, {items:,} items, {options.count} neighbours"
    )
    print(f"{ours.seconds:.1f} s (target: about {SECONDS:.0f} s), {ours.cpu_seconds:.1f} CPU s")
    print(f"largest process: {peak / 1e9:.2f} GB (target: {BYTES / 1e9:.0f} GB)")
    print(f"scipy's products alone / all of it: {products / ours.cpu_seconds:.2f}, in CPU seconds")
    return int(min(ours.seconds, ours.cpu_seconds) > SECONDS or peak > BYTES)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--count", type=int, default=64)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
