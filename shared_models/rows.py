"""What learns from rows of numbers and categories that are no log: tables, and a network.

The two are apart because they are trained apart: each process of a training has some of the tables
for every row of a batch, and the whole network for some of its rows.
"""

# Shapes: B rows, N dense features, T categories, D width, L ids of a padded bag.

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from pydantic import BaseModel
from torch import Tensor, nn

from shared_models.layers.tables import Bags


class RowTables(Protocol):
    """A module that looks categories up, and trains what it looked up in the backward pass."""

    def __call__(self, bags: Bags) -> Tensor:
        """Vectors (B, T, D)."""
        ...

    def to(self, device: Any) -> Any:
        """Itself, there."""
        ...

    def move_by(self, rate: float) -> None:
        """From now on a backward pass moves the rows that were looked up."""
        ...

    @property
    def state(self) -> Mapping[str, Tensor]:
        """Every weight by feature, as views that may be written to."""
        ...

    @property
    def moments(self) -> Mapping[str, Tensor]:
        """What the optimiser knows of rows, likewise."""
        ...

    @property
    def dense_parameters(self) -> Mapping[str, nn.Parameter]:
        """Weights that an ordinary optimiser moves, by their names in `state`."""
        ...


class RowLearner(Protocol):
    """Makes the parts of a model; stateless."""

    @property
    def config(self) -> BaseModel:
        """Frozen settings."""
        ...

    @property
    def dense(self) -> int:
        """Dense features that it reads, N."""
        ...

    @property
    def optimizer(self) -> Literal["sgd", "adagrad"]:
        """Of the network."""
        ...

    def tables(self, values: Sequence[int], seed: int, own: range | None = None) -> RowTables:
        """Fresh tables of ``own`` categories, all by default, as they are among ``values``."""
        ...

    def network(self, categories: int, seed: int) -> nn.Module:
        """A fresh module ``(dense_BN, vectors_BTD) -> logits_B``."""
        ...

    def losses(self, logits_B: Tensor, labels_B: Tensor) -> Tensor:
        """Of each row (B,)."""
        ...

    def scorer(self, tables: Any, network: Any) -> nn.Module:
        """A module ``(dense_BN, ids_BTL) -> probabilities_B`` of ids from 1, padded with 0."""
        ...


def parameters_of(network: nn.Module, tables: RowTables) -> Iterable[tuple[str, nn.Parameter]]:
    """All that an ordinary optimiser moves, by the names that a checkpoint has for it."""
    for name, parameter in network.named_parameters():
        yield f"network.{name}", parameter
    yield from tables.dense_parameters.items()
