"""A log as it stands once devices have told more: the cut slides, nothing is left to test."""

from pathlib import Path

import polars as pl

from shared_models.contract.errors import BadSetting
from shared_models.logs.prepared import ABOUT_FIELDS, PreparedLog, write_log


def grown(log: PreparedLog, uploaded: pl.DataFrame, folder: Path) -> PreparedLog:
    """Write ``log`` with what was uploaded, as a log to train on.

    Of each user as many newest events validate as in ``log``, and all that came before them train:
    its own cut, moved on to the present.

    Args:
        log: of next items.
        uploaded: ``user``, ``item`` and ``at`` of events after those that ``log`` trains on and
            validates with, in each user's order.
        folder: of the new log.

    Raises:
        BadSetting: ``log`` holds labelled exposures, of which devices upload none.
    """
    if log.task != "next-item":
        raise BadSetting("log", f"{log.manifest.name} holds exposures: devices upload none of them")
    known = pl.concat([log.train, log.validation])
    events = _continued(known, uploaded)
    kept = log.validation.group_by("user").agg(validating=pl.len())
    from_end = pl.col("seq").max().over("user") - pl.col("seq")
    validates = from_end < pl.col("validating").fill_null(0)
    split = events.join(kept, on="user", how="left", maintain_order="left").with_columns(
        validates=validates
    )
    frames = {
        "train": split.filter(~pl.col("validates")).select(known.columns),
        "validation": split.filter("validates").select(known.columns),
        "test": log.test.clear(),
        "items": log.item_table,
        "users": log.user_table,
    }
    return write_log(folder, frames, log.manifest.model_dump(include=set(ABOUT_FIELDS)))


def _continued(known: pl.DataFrame, uploaded: pl.DataFrame) -> pl.DataFrame:
    """All events in order of (user, seq); what is new is numbered after what was known."""
    last = known.group_by("user").agg(last=pl.col("seq").max())
    after = pl.col("last").fill_null(-1) + 1 + pl.int_range(pl.len()).over("user")
    new = (
        uploaded.with_columns(pl.col("user").cast(known.schema["user"]))
        .join(last, on="user", how="left", maintain_order="left")
        .with_columns(seq=after)
        .select(pl.col(name).cast(kind) for name, kind in known.schema.items())
    )
    return pl.concat([known, new]).sort("user", "seq")
