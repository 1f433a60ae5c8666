"""Settings of cigar."""

from typing import ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from typing_extensions import override

from shared_models.config import MethodConfig, NeighbourSpec
from shared_models.contract.manifest import MemorySpec, RefreshRule, UplinkSpec

TABLE = "cigar"
"""The format of its original's tables."""
SHARED = "shared"
"""The encoder's output: what a device lets its neighbours know."""


class Config(MethodConfig):
    """A trunk over features of users and items, what neighbours tell, and a head for each group.

    Without ``exchange`` and ``prototypes`` it is the plain network; with one of them, an ablation.
    """

    reads_profile: ClassVar[bool] = True

    fields: bool = Field(True, description="Whether models read features of items and users.")
    exchange: bool = Field(True, description="Whether devices learn from their neighbours.")
    prototypes: bool = Field(True, description="Whether each group of users has its own head.")
    others: NeighbourSpec = Field(NeighbourSpec(), description="Whom a device learns from.")
    layers: PositiveInt = Field(1, description="Layers over a neighbour's vector.")
    shared: PositiveInt = Field(100, description="Newest events that the shared vector pools.")
    groups: PositiveInt = Field(5, description="Prototypes, K.")
    temperature: PositiveFloat = Field(0.1, description="Of the choice of a prototype.")
    diversity: NonNegativeFloat = Field(0.1, description="Weight of how alike prototypes are.")
    every: PositiveInt = Field(5, description="Events between two refreshes.")

    @property
    @override
    def refresh(self) -> RefreshRule:
        """Each ``every`` events."""
        return RefreshRule(rule="every-n", every=self.every)

    @property
    @override
    def uplink(self) -> UplinkSpec | None:
        """The shared vector and nothing else."""
        if not self.exchange and not self.prototypes:
            return None
        return UplinkSpec(items=self.shared, outputs=(SHARED,))

    @property
    @override
    def memory(self) -> MemorySpec | None:
        """The shared vector of each user."""
        return MemorySpec(name=SHARED, width=self.trunk.width) if self.exchange else None

    @property
    @override
    def neighbours(self) -> NeighbourSpec | None:
        """Whom a device learns from."""
        return self.others if self.exchange else None

    @property
    @override
    def history(self) -> int:
        """The shared vector's."""
        return max(self.features.window, self.shared)
