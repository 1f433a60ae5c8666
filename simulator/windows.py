"""What each device knows before the replay: its user's items until the first moment."""

import polars as pl

from shared_models.logs.moments import Moments
from shared_models.logs.prepared import PreparedLog, taken


def initial_windows(log: PreparedLog, moments: Moments, length: int) -> dict[int, list[int]]:
    """The newest ``length`` items that each replayed user took before the first moment.

    Newest last. A user who took nothing gets an empty window: a device out of its box.
    """
    replayed = pl.DataFrame({"user": moments.user, "seq": moments.seq}).cast(pl.Int32)
    first = replayed.group_by("user").agg(first=pl.col("seq").min())
    past = log.events.join(first, on="user").filter(pl.col("seq") < pl.col("first"))
    newest = taken(past).sort("user", "seq").group_by("user").agg(pl.col("item").tail(length))
    known = dict(newest.iter_rows())
    return {user: known.get(user, []) for user in first["user"].sort().to_list()}
