"""What each device knows before the replay: its user's items until the first moment."""

import polars as pl

from shared_models.logs.fields import user_fields
from shared_models.logs.moments import Moments
from shared_models.logs.prepared import PreparedLog, taken


def initial_windows(log: PreparedLog, moments: Moments, length: int) -> dict[int, list[int]]:
    """The newest ``length`` items that each replayed user took before what is replayed of them.

    Newest last. A user who took nothing gets an empty window: a device out of its box.
    """
    replayed = [
        pl.DataFrame({"user": lived.user, "seq": lived.seq}) for lived in (moments, moments.clicks)
    ]
    first = pl.concat(replayed).cast(pl.Int32).group_by("user").agg(first=pl.col("seq").min())
    past = log.events.join(first, on="user").filter(pl.col("seq") < pl.col("first"))
    newest = taken(past).sort("user", "seq").group_by("user").agg(pl.col("item").tail(length))
    known = dict(newest.iter_rows())
    return {user: known.get(user, []) for user in first["user"].sort().to_list()}


def known_profiles(log: PreparedLog) -> dict[int, list[int]]:
    """Value ids of each user's features, by user; none where the log knows nothing of users."""
    fields = user_fields(log)
    return {} if fields is None else dict(enumerate(fields.ids.tolist()))
