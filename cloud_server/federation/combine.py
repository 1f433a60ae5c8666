"""Many devices' moves, one move of what their group shares."""

# Shapes: N contributors, P numbers in all slots together.

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared_models.contract.manifest import FederationSpec
from shared_models.contract.tensors import Float32Array

_MOST_EXAMPLES = 1 << 16
"""What a contributor weighs at most, whatever it says of itself."""


def combined(
    moves_NP: Sequence[Float32Array], examples_N: Sequence[int], spec: FederationSpec
) -> Float32Array:
    """How far the group's values go, float32 (P,).

    The sums run in float64 and in the order given, so the same contributors in the same order give
    the same bits.

    Args:
        moves_NP: of one contributor or more; one longer than the manifest's limit is cut down.
        examples_N: what each move was learned from; its weight in the mean.
        spec: says how they are combined.
    """
    moves = _cut(np.stack(moves_NP).astype(np.float64), spec.norm)
    if spec.combine == "mean":
        weights = np.minimum(np.array(examples_N), _MOST_EXAMPLES)
        move = np.average(moves, axis=0, weights=weights)
    else:
        move = _trimmed(moves, spec.trim)
    taken: Float32Array = (spec.rate * move).astype(np.float32)
    return taken


def _trimmed(moves_NP: NDArray[np.float64], trim: float) -> NDArray[np.float64]:
    """Coordinate by coordinate, without the ends (Yin et al., arXiv:1803.01498).

    Before that no move is longer than the middle one: whoever lies, lies no louder than the rest.
    """
    ordered = np.sort(_cut(moves_NP, float(np.median(_lengths(moves_NP)))), axis=0)
    dropped = int(trim * len(ordered))
    kept: NDArray[np.float64] = ordered[dropped : len(ordered) - dropped].mean(axis=0)
    return kept


def _cut(moves_NP: NDArray[np.float64], longest: float) -> NDArray[np.float64]:
    """Each move as it is, or in its own direction as far as ``longest``."""
    lengths_N = _lengths(moves_NP)
    share_N = np.divide(longest, lengths_N, out=np.ones_like(lengths_N), where=lengths_N > longest)
    return moves_NP * share_N[:, None]


def _lengths(moves_NP: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt((moves_NP * moves_NP).sum(axis=1))
    return lengths
