"""The parts of the network, for training on rows that are no log."""

# Shapes: B rows.

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from shared_models.methods.dlrm.config import Architecture
from shared_models.methods.dlrm.embeddings import Embeddings
from shared_models.methods.dlrm.network import Meeting, Scorer, built_meeting, losses


class DlrmRows:
    """Embeddings, and what their vectors meet in."""

    def __init__(self, config: Architecture) -> None:
        self.config = config

    @property
    def dense(self) -> int:
        """What the bottom perceptron reads."""
        return self.config.bottom[0]

    @property
    def optimizer(self) -> Literal["sgd", "adagrad"]:
        """Row-wise Adagrad is for rows: perceptrons get the plain one."""
        return "sgd" if self.config.optimizer == "sgd" else "adagrad"

    def tables(self, values: Sequence[int], seed: int, own: range | None = None) -> Embeddings:
        """Fresh embeddings of ``own`` categories, of all by default."""
        return Embeddings(self.config, values, seed, own)

    def network(self, categories: int, seed: int) -> nn.Module:
        """Both perceptrons and the interaction between them."""
        return built_meeting(self.config, categories, seed)

    def losses(self, logits_B: Tensor, labels_B: Tensor) -> Tensor:
        """Of each row (B,)."""
        return losses(self.config, logits_B, labels_B)

    def scorer(self, tables: Embeddings, network: Meeting) -> nn.Module:
        """Both together, with tables of as many bits as the config says."""
        return Scorer(tables, network, self.config.bits)


ROWS = DlrmRows
