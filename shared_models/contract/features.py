"""How behaviour becomes the inputs of a graph: the same lines on both sides, the sizes as data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from shared_models.contract.events import PAD
from shared_models.contract.tensors import Int64Array

PROFILE: Final = "profile"
"""Name of the graphs' input for the user's features."""
PRIOR: Final = "prior"
"""Name of the graphs' input for what the cloud thinks of the candidates."""


class FieldSpec(BaseModel):
    """Categorical features of users or of items, all of their values numbered together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: PositiveInt = Field(description="Distinct values; ids run from 1, 0 is none.")
    most: PositiveInt = Field(description="Value ids that one user or item may have, M.")


@dataclass(frozen=True, slots=True)
class LogFields:
    """What features a log has; None where it has none."""

    items: FieldSpec | None = None
    users: FieldSpec | None = None


class FeatureSpec(BaseModel):
    """How a window and candidates are encoded; goes into the manifest as data.

    A window is right-padded: its oldest item comes first, then newer ones, then `PAD`. Graphs read
    ``event_ids`` int64 (B, T) and ``candidate_ids`` int64 (B, C).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: PositiveInt = Field(description="Number of items V; ids run from 1 to V.")
    window: PositiveInt = Field(10, description="Events that the scorer sees, T.")
    names: tuple[str, ...] = ("event_ids", "candidate_ids")
    item_fields: FieldSpec | None = Field(None, description="Of items, inside the graphs.")
    profile: FieldSpec | None = Field(
        None, description="Of the user: graphs also read ``profile`` int64 (B, M)."
    )
    prior: bool = Field(
        False, description="Graphs also read ``prior`` float32 (B, C), the cloud's logits; 0: none."
    )

    def encode_window(self, items: Sequence[int]) -> Int64Array:
        """The newest T of ``items`` (oldest first) as int64 (1, T)."""
        return encode_windows([items], self.window)

    def encode_profile(self, values: Sequence[int]) -> Int64Array:
        """The value ids of a user's features, padded: int64 (1, M)."""
        assert self.profile is not None  # noqa: S101 - only graphs that read one ask for it
        encoded = encode_windows([values], self.profile.most)
        return np.where((encoded >= 1) & (encoded <= self.profile.values), encoded, PAD)

    def known(self, items: Int64Array) -> Int64Array:
        """``items`` with every id that the model has no row for replaced by `PAD`."""
        return np.where((items >= 1) & (items <= self.items), items, PAD)


def encode_windows(windows: Sequence[Sequence[int]], length: int) -> Int64Array:
    """The newest ``length`` items of each window, oldest first, right-padded: (B, length)."""
    encoded = np.full((len(windows), length), PAD, dtype=np.int64)
    for row, items in enumerate(windows):
        newest = items[max(len(items) - length, 0) :]
        encoded[row, : len(newest)] = newest
    return encoded
