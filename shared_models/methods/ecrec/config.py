"""Settings of ecrec."""

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from typing_extensions import override

from shared_models.config import MethodConfig
from shared_models.contract.manifest import MemorySpec, RefreshRule, UplinkSpec

TABLE = "ecrec"
"""The format of its original's tables."""


class Config(MethodConfig):
    """A trunk that reads a memory beside its window, and what makes the memory."""

    uploads: bool = Field(True, description="Whether devices upload events: memories need them.")
    long: PositiveInt = Field(100, description="Newest events that a memory is made of, L.")
    heads: PositiveInt = Field(4, description="Attention heads of the aggregation.")
    gate: bool = Field(
        True, description="Weigh memory against window by how much there is of both."
    )
    passes: PositiveInt = Field(
        2, description="Times that training reads each row, with other events hidden each time."
    )
    keep: float = Field(0.7, gt=0, le=1, description="Share of long events that a pass sees.")
    consistency: NonNegativeFloat = Field(
        1.0, description="Weight of how much the passes differ; nothing with one pass."
    )
    max_lag: NonNegativeInt = Field(
        40, description="Training draws memories up to this many events old."
    )
    lagged: float = Field(0.7, ge=0, le=1, description="Share of rows with such a memory.")
    missing: float = Field(0.1, ge=0, lt=1, description="Share of rows without a memory.")
    every: PositiveInt = Field(10, description="Events between two refreshes.")

    @property
    @override
    def refresh(self) -> RefreshRule:
        """Each ``every`` events; a memory is better than none, however old."""
        return RefreshRule(rule="every-n", every=self.every)

    @property
    @override
    def uplink(self) -> UplinkSpec:
        """The events since the last refresh."""
        return UplinkSpec(items=self.long, pending=True)

    @property
    @override
    def memory(self) -> MemorySpec:
        """One vector of the trunk's width."""
        return MemorySpec(name="memory", width=self.trunk.width)

    @property
    @override
    def history(self) -> int:
        """The long sequence as long ago as training may draw it."""
        return max(self.features.window, self.long + self.max_lag)
