"""Settings of longview."""

from pydantic import Field, NonNegativeInt, PositiveInt
from typing_extensions import override

from shared_models.config import MethodConfig
from shared_models.contract.manifest import RefreshRule, UplinkSpec


class Config(MethodConfig):
    """A trunk, and how far back the cloud looks."""

    looks_back: PositiveInt = Field(50, description="Events that the cloud sees, G.")
    max_lag: NonNegativeInt = Field(20, description="Training draws biases up to so old.")

    @property
    @override
    def refresh(self) -> RefreshRule:
        """Each tenth event; past the lag of the training the default bias ranks."""
        return RefreshRule(rule="every-n", every=10, max_age=self.max_lag)

    @property
    @override
    def uplink(self) -> UplinkSpec:
        """Item ids, as many as the cloud looks back."""
        return UplinkSpec(items=self.looks_back)

    @property
    @override
    def history(self) -> int:
        """What the cloud sees, as long ago as training may draw it."""
        return max(self.features.window, self.looks_back + self.max_lag)
