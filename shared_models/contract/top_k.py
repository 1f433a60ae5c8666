"""Metrics of a list of ten where a user may have several relevant items (recommenders' tables).

Definitions as in RecBole and most papers: ``hit`` is whether any relevant item is among the ten,
``recall`` the share of the relevant ones that are, ``ndcg`` has the best order of at most ten as
its ideal, ``mrr`` is one over the place of the first one, 0 beyond the list.
"""

# Shapes: U users, V items, K places of a list.

import numpy as np
from numpy.typing import NDArray

from shared_models.contract.tensors import Float32Array

BoolArray = NDArray[np.bool_]


def top_k_metrics(
    scores_UV: Float32Array, relevant_UV: BoolArray, seen_UV: BoolArray, k: int = 10
) -> dict[str, float]:
    """Means over the users who have something relevant.

    Args:
        scores_UV: of every item.
        relevant_UV: what should be found.
        seen_UV: what is not ranked, whatever its score; nothing of it is relevant.
        k: places of a list.
    """
    relevant_UV = relevant_UV & ~seen_UV
    judged_U = relevant_UV.any(axis=1)
    relevant_UV = relevant_UV[judged_U]
    scores_UV = np.where(seen_UV, -np.inf, scores_UV)[judged_U]
    hits_UK = np.take_along_axis(relevant_UV, np.argsort(-scores_UV, kind="stable")[:, :k], 1)
    count_U = relevant_UV.sum(axis=1)
    discount_K = 1 / np.log2(np.arange(2, k + 2))
    ideal_K = np.cumsum(discount_K)
    by_user = {
        "hit": hits_UK.any(axis=1),
        "recall": hits_UK.sum(axis=1) / count_U,
        "ndcg": hits_UK @ discount_K / ideal_K[np.minimum(count_U, k) - 1],
        "mrr": hits_UK.any(axis=1) / (1 + hits_UK.argmax(axis=1)),
    }
    return {f"{name}@{k}": float(value_U.mean()) for name, value_U in by_user.items()}
