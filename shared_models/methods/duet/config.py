"""Settings of DUET."""

from typing import ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from typing_extensions import override

from shared_models.config import MethodConfig
from shared_models.contract.features import FeatureSpec
from shared_models.contract.manifest import RefreshRule, UplinkSpec


class Config(MethodConfig):
    """A trunk whose head is written for each user by a generator in the cloud."""

    export_only: ClassVar[frozenset[str]] = MethodConfig.export_only | {"delivery", "max_age"}

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
    gate: bool = Field(True, description="Whether to train a gate that tells when to ask.")
    gate_hidden: PositiveInt = Field(32, description="Width of the gate's hidden layer.")
    gate_lag: PositiveInt = Field(20, description="Events since a refresh that the gate is for.")
    delivery: Literal["weights", "code", "dense", "model", "generator"] = Field(
        "weights",
        description="What a refresh brings: the head's weights; the code alone, the device holding "
        "the generator's last layer; all dense layers; the whole model with its tables; or "
        "nothing, the generator being on the device.",
    )

    @property
    @override
    def refresh(self) -> RefreshRule:
        """Before each ranking; a scenario may ask less often."""
        if self.delivery == "generator":
            return RefreshRule()
        return RefreshRule(
            rule="always", max_age=self.max_lag if self.max_age is None else self.max_age
        )

    @property
    @override
    def uplink(self) -> UplinkSpec | None:
        """The generator's window of item ids."""
        return None if self.delivery == "generator" else UplinkSpec(items=self.generator_window)

    @property
    @override
    def device_features(self) -> FeatureSpec:
        """The generator's window where it runs on the device, else the scorer's."""
        if self.delivery != "generator":
            return self.features
        window = max(self.features.window, self.generator_window)
        return self.features.model_copy(update={"window": window})

    @property
    @override
    def history(self) -> int:
        """The scorer's window, or the generator's as long ago as training may draw it."""
        lag = max(self.max_lag, self.gate_lag) if self.gate else self.max_lag
        return max(self.features.window, self.generator_window + lag)
