"""What learning may cost a device, and what it has cost: steps and bytes, never seconds."""

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt


class LearningAllowance(BaseModel):
    """What learning may cost each device in all; a part that is not said is not limited."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: NonNegativeInt | None = Field(None, description="Steps of the optimiser.")
    bytes: NonNegativeInt | None = Field(
        None, description="Payload both ways of learning together: contributions, and new values."
    )


class LearningAccount:
    """What one device has spent. Nothing is begun that might end beyond the allowance.

    Args:
        allowance: what it may spend.

    Attributes:
        steps: taken so far.
        bytes: of payload so far; an exchange that broke counts as the largest that it could be.
    """

    __slots__ = ("_allowance", "bytes", "steps")

    def __init__(self, allowance: LearningAllowance) -> None:
        self._allowance = allowance
        self.steps = self.bytes = 0

    def affords_steps(self, steps: int) -> bool:
        """Whether so many steps are left."""
        most = self._allowance.steps
        return most is None or self.steps + steps <= most

    def affords_bytes(self, most_needed: int) -> bool:
        """Whether so many bytes are left."""
        most = self._allowance.bytes
        return most is None or self.bytes + most_needed <= most
