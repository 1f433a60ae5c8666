"""Pooling: a user is the mean of the window, as in the first deep recommenders.

Embedding, mean and perceptron are those of Covington et al. (RecSys 2016), section 3; the products
with the candidate are added.
"""

# Shapes: B rows, T events in the window, C candidates, D width.

from torch import Tensor
from typing_extensions import override

from shared_models.layers.sequence import mean_known
from shared_models.trunks.trunk import CrossTrunk


class Pool(CrossTrunk):
    """The mean of the window, beside every candidate."""

    @override
    def interest(self, event_ids_BT: Tensor, targets_BCD: Tensor) -> Tensor:
        return mean_known(self.embed_history(event_ids_BT), event_ids_BT)[:, None]
