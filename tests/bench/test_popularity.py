"""Rankings by how popular the item taken is."""

from pathlib import Path

import numpy as np
import polars as pl

from bench.popularity import by_popularity
from shared_models.logs.prepare import prepare
from shared_models.logs.source import Source


def test_every_ranking_is_in_the_bucket_of_what_was_taken_and_none_is_lost(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = np.minimum(rng.geometric(0.05, 2000), 90)
    events = pl.DataFrame(
        {"user": np.repeat(np.arange(20), 100), "item": items, "at": np.arange(2000.0)}
    )
    log = prepare(Source("steep", events), "user-tail", tmp_path / "log")
    times = np.bincount(log.train["item"].to_numpy(), minlength=log.items + 1)

    parts = by_popularity(log.test.select("user", "seq"), log)

    assert sum(map(len, parts.values())) == len(log.test)
    assert [len(part) > 0 for part in parts.values()][:2] == [True, True]
    for (low, high), part in parts.items():
        own = part.join(log.test, on=["user", "seq"])["item"].to_numpy()
        assert ((times[own] >= low) & (times[own] <= (high or np.inf))).all()
