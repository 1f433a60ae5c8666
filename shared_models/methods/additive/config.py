"""Settings of additive."""

from pydantic import Field, NonNegativeInt, PositiveInt
from typing_extensions import override

from shared_models.config import MethodConfig
from shared_models.contract.manifest import RefreshRule, UplinkSpec


class Config(MethodConfig):
    """DUET's capacity without its generation; every default is DUET's."""

    code: PositiveInt = Field(32, description="Width Z of the latent code.")
    generator_window: PositiveInt = Field(20, description="Events that the encoder sees, G.")
    max_lag: NonNegativeInt = Field(
        20, description="Training draws overlays up to this many events old."
    )
    code_dropout: float = Field(
        0.15, ge=0, lt=1, description="Share of rows trained without an offset."
    )

    @property
    @override
    def refresh(self) -> RefreshRule:
        """Before each ranking; a scenario may ask less often."""
        return RefreshRule(rule="always", max_age=self.max_lag)

    @property
    @override
    def uplink(self) -> UplinkSpec:
        """The encoder's window of item ids."""
        return UplinkSpec(items=self.generator_window)

    @property
    @override
    def history(self) -> int:
        """The scorer's window, or the encoder's as long ago as training may draw it."""
        return max(self.features.window, self.generator_window + self.max_lag)
