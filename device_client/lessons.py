"""What a device learns from: its user's newest events, each beside items that were not taken."""

# Shapes: B events, T events in a window, C candidates.

from collections.abc import Sequence
from typing import Any

import numpy as np

from shared_models.contract.events import PAD
from shared_models.contract.features import FeatureSpec, encode_windows
from shared_models.contract.manifest import LearningSpec
from shared_models.contract.tensors import Int64Array

Lesson = dict[str, np.ndarray[Any, Any]]


def lesson_of(
    items: Sequence[int], features: FeatureSpec, spec: LearningSpec, rng: np.random.Generator
) -> Lesson | None:
    """Inputs of a graph ``grad`` but the slots.

    Args:
        items: what is remembered of the user, oldest first.
        features: how they are encoded.
        spec: how many events, and how many negatives for each.
        rng: draws the negatives, uniformly from all that is not remembered.

    Returns:
        ``event_ids`` (B, T), ``candidate_ids`` (B, C) with the taken item first, ``labels`` (B, C)
        and ``weights`` (B,); None where there is nothing to learn from.
    """
    # An event without a past is none: the cloud's training leaves it out as well.
    events = range(max(len(items) - spec.rows, 1), len(items))
    taken_B = features.known(np.array([items[event] for event in events], np.int64))
    remembered = np.unique(features.known(np.array(items, np.int64)))
    remembered = remembered[remembered != PAD]
    if not taken_B.any() or len(remembered) == features.items:
        return None
    drawn_BC = _absent(remembered, features.items, (len(events), spec.negatives), rng)
    labels_BC = np.zeros((len(events), 1 + spec.negatives), np.float32)
    labels_BC[:, 0] = 1
    windows = [items[max(event - features.window, 0) : event] for event in events]
    return {
        "event_ids": features.known(encode_windows(windows, features.window)),
        "candidate_ids": np.column_stack([taken_B, drawn_BC]),
        "labels": labels_BC,
        # An item that the model has no row for says nothing about the slots.
        "weights": (taken_B != PAD).astype(np.float32),
    }


def _absent(
    remembered: Int64Array, items: int, shape: tuple[int, int], rng: np.random.Generator
) -> Int64Array:
    """Uniform items out of 1 to ``items`` without the ``remembered`` ones, which are ascending."""
    ranks = rng.integers(0, items - len(remembered), shape)
    # The r-th absent item is r plus the remembered ones below it.
    below = remembered - 1 - np.arange(len(remembered))
    drawn: Int64Array = ranks + 1 + np.searchsorted(below, ranks, "right")
    return drawn
