"""How behaviour becomes the inputs of a graph: the same lines on both sides, the sizes as data."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from shared_models.contract.events import PAD
from shared_models.contract.tensors import Int64Array


class FeatureSpec(BaseModel):
    """How a window and candidates are encoded; goes into the manifest as data.

    A window is right-padded: its oldest item comes first, then newer ones, then `PAD`. Graphs read
    ``event_ids`` int64 (B, T) and ``candidate_ids`` int64 (B, C).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: PositiveInt = Field(description="Number of items V; ids run from 1 to V.")
    window: PositiveInt = Field(10, description="Events that the scorer sees, T.")
    names: tuple[str, ...] = ("event_ids", "candidate_ids")

    def encode_window(self, items: Sequence[int]) -> Int64Array:
        """The newest T of ``items`` (oldest first) as int64 (1, T)."""
        return encode_windows([items], self.window)

    def known(self, items: Int64Array) -> Int64Array:
        """``items`` with every id that the model has no row for replaced by `PAD`."""
        return np.where((items >= 1) & (items <= self.items), items, PAD)


def encode_windows(windows: Sequence[Sequence[int]], length: int) -> Int64Array:
    """The newest ``length`` items of each window, oldest first, right-padded: (B, length)."""
    encoded = np.full((len(windows), length), PAD, dtype=np.int64)
    for row, items in enumerate(windows):
        newest = items[-length:]
        encoded[row, : len(newest)] = newest
    return encoded
