"""Settings of MCRec."""

from typing import Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from typing_extensions import override

from shared_models.config import MethodConfig, TrunkConfig
from shared_models.contract.features import FeatureSpec
from shared_models.contract.manifest import RankingSpec, RefreshRule, UplinkSpec
from shared_models.logs.sessions import LONGEST

TABLES: Final = {name: f"mcrec-{name}" for name in ("cloud", "device", "controller")}
"""By the setting ``part``, the format of the original's tables that it reads."""
_ID_BYTES: Final = 2
_SCORE_BYTES: Final = 2


class Prices(BaseModel):
    """What a refresh costs, in the unit of outcomes: a taken item's share of others ranked below.

    Labels know it, and devices obey it at ``device.refresh.threshold=0``: the threshold of a share
    is where that share of rankings refreshes, whatever a refresh costs.

    0.01 for a KiB means that a refresh of a KiB must move the taken items of the next exposures
    past one more candidate in a hundred.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kib: NonNegativeFloat = Field(0.0, description="Of a KiB up or down.")
    second: NonNegativeFloat = Field(0.0, description="Of a second that the user waits.")
    seconds: NonNegativeFloat = Field(0.1, description="That a refresh takes.")


class Config(MethodConfig):
    """A ranker in the cloud, a small one on the device, and a controller that chooses.

    ``trunk`` is the cloud's; the device's has the same kind and a smaller width.
    """

    part: Literal["all", "cloud", "device", "controller"] = Field(
        "all",
        description="What is trained and judged: the system, or, on a table of the original, the "
        "one network that the table is for.",
    )
    cloud_window: PositiveInt = Field(50, description="Events that the cloud's ranker sees, G.")
    device_width: PositiveInt = Field(
        8, description="Width of the device's ranker; a quarter of the cloud's by default."
    )
    controller_width: PositiveInt = Field(6, description="Width of the controller's item vectors.")
    hidden: PositiveInt = Field(32, description="Width of the controller's hidden layer.")
    horizon: PositiveInt = Field(10, description="Exposures over which an outcome is taken, K.")
    negatives: PositiveInt = Field(50, description="Items that what is taken is compared with, N.")
    temperature: PositiveFloat = Field(
        0.05,
        description="Smoothing of labels: a mechanism whose outcome is this much better is e times "
        "as likely to be the label.",
    )
    decision_epochs: PositiveInt = Field(10, description="Most epochs of learner and controller.")
    prices: Prices = Prices()
    share: float = Field(
        0.1, gt=0, le=1, description="Budget: rankings inside sessions that refresh, by default."
    )

    @model_validator(mode="after")
    def _device_is_smaller(self) -> Self:
        if not self.controller_width < self.device_width < self.trunk.width:
            raise ValueError(
                f"widths {self.controller_width} (controller), {self.device_width} (device) and "
                f"{self.trunk.width} (trunk, in the cloud) must grow"
            )
        return self

    @property
    def cloud_features(self) -> FeatureSpec:
        """What the cloud's ranker reads."""
        return self.features.model_copy(update={"window": self.cloud_window})

    @property
    @override
    def device_features(self) -> FeatureSpec:
        return self.features.model_copy(update={"prior": True})

    @property
    def device_trunk(self) -> TrunkConfig:
        """The cloud's, but for its width."""
        heads = min(self.trunk.heads, self.device_width)
        while self.device_width % heads:
            heads -= 1
        return self.trunk.model_copy(update={"width": self.device_width, "heads": heads})

    @property
    @override
    def refresh(self) -> RefreshRule:
        """When a session begins, and where the controller finds it worth its cost."""
        return RefreshRule(rule="learnt", share=self.share)

    @property
    @override
    def uplink(self) -> UplinkSpec:
        return UplinkSpec(items=self.cloud_window)

    @property
    @override
    def ranking(self) -> RankingSpec:
        """What to do inside a session is the controller's to choose."""
        return RankingSpec(between="controller")

    @property
    @override
    def history(self) -> int:
        """The longer window of both rankers as old as a list may get, and what is shown after."""
        return max(self.cloud_window, self.features.window) + LONGEST + self.horizon

    @property
    def refresh_cost(self) -> float:
        """Of one refresh, in the unit of outcomes."""
        longest = self.ranking.longest
        size = _ID_BYTES * (self.cloud_window + longest) + _SCORE_BYTES * longest
        return self.prices.kib * size / 1024 + self.prices.second * self.prices.seconds
