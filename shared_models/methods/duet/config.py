"""Settings of DUET."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from typing_extensions import override

from shared_models.config import MethodConfig
from shared_models.contract.bundle import RefreshRule, UplinkSpec


class Config(MethodConfig):
    """A trunk whose head is written for each user by a generator in the cloud."""

    code: PositiveInt = Field(32, description="Width Z of the latent code.")
    generator_window: PositiveInt = Field(
        20, description="Events that the generator sees, G; may exceed the scorer's window."
    )
    max_lag: NonNegativeInt = Field(
        20,
        description="Training draws overlays up to this many events old; 0 trains on fresh ones "
        "only, an ablation that is worse than no DUET once an overlay is a few events old.",
    )
    max_age: NonNegativeInt | None = Field(
        None, description="Oldest overlay that devices rank with; by default max_lag."
    )
    code_dropout: float = Field(
        0.15, ge=0, lt=1, description="Share of rows trained with a zero code: the default head."
    )
    writer_scale: float = Field(0.02, gt=0, description="Spread of the weight writer at the start.")
    heads: Literal["trained", "frozen"] = Field(
        "trained",
        description="frozen keeps the writer at large random values, as the public code does.",
    )

    @property
    @override
    def refresh(self) -> RefreshRule:
        """Before each ranking; a scenario may ask less often."""
        return RefreshRule(
            rule="always", max_age=self.max_lag if self.max_age is None else self.max_age
        )

    @property
    @override
    def uplink(self) -> UplinkSpec:
        """The generator's window of item ids."""
        return UplinkSpec(items=self.generator_window)

    @property
    @override
    def history(self) -> int:
        """The scorer's window, or the generator's as long ago as training may draw it."""
        return max(self.features.window, self.generator_window + self.max_lag)
