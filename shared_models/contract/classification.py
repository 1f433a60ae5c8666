"""How well nodes are classified: accuracy and F1, by classes and by nodes."""

# Shapes: M nodes, C classes.

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shared_models.contract.tensors import Float32Array


def decided(logits_MC: Float32Array, *, multi_label: bool) -> NDArray[np.bool_]:
    """The classes (M, C) that scores speak for: the highest, or all above even odds."""
    if multi_label:
        return np.asarray(logits_MC > 0)
    return np.asarray(np.arange(logits_MC.shape[1]) == logits_MC.argmax(1)[:, None])


def classification(
    logits_MC: Float32Array, labels_MC: Float32Array, *, multi_label: bool
) -> Mapping[str, float]:
    """``accuracy``, ``micro_f1`` and ``macro_f1`` of labelled nodes.

    Accuracy is the share of nodes of which every class is right. Micro-F1 counts all classes
    together, ``2 TP / (2 TP + FP + FN)``; with one class a node it equals accuracy. Macro-F1 is
    the mean over classes that are there or were decided for.
    """
    said, true = decided(logits_MC, multi_label=multi_label), labels_MC > 0
    hits_C = (said & true).sum(0)
    counted_C = said.sum(0) + true.sum(0)
    seen_C = counted_C > 0
    by_class = 2 * hits_C[seen_C] / counted_C[seen_C]
    return {
        "accuracy": float((said == true).all(1).mean()) if len(said) else 0.0,
        "micro_f1": float(2 * hits_C.sum() / max(counted_C.sum(), 1)),
        "macro_f1": float(by_class.mean()) if len(by_class) else 0.0,
    }
