"""Features for graphs that come without any."""

# Shapes: N nodes, P pairs.

from typing import Final, Literal

import numpy as np

from shared_models.contract.errors import BadSetting
from shared_models.contract.nodes import both_ways
from shared_models.contract.tensors import Float32Array, Int64Array

Absent = Literal["degree", "identity"]
BUCKETS: Final = 16
_MOST: Final = 20_000


def features_from_structure(pairs_2P: Int64Array, nodes: int, absent: Absent) -> Float32Array:
    """What stands for the features of ``nodes`` nodes.

    ``degree`` is one of 16 columns, the logarithm of the degree to base 2, and serves graphs that a
    model has never seen. ``identity`` is a column for each node: it can tell nodes apart, and knows
    no others.

    Raises:
        BadSetting: too many nodes to give each a column.
    """
    if absent == "identity":
        if nodes > _MOST:
            raise BadSetting("absent", f"identity is for at most {_MOST:,} nodes: choose degree")
        return np.eye(nodes, dtype=np.float32)
    degrees_N = np.bincount(both_ways(pairs_2P, nodes)[0], minlength=nodes)
    buckets_N = np.minimum(np.log2(degrees_N + 1).astype(np.int64), BUCKETS - 1)
    return np.eye(BUCKETS, dtype=np.float32)[buckets_N]
