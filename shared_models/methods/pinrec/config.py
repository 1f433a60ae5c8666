"""Settings of PINRec."""

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt
from typing_extensions import override

from shared_models.config import MethodConfig, UserGroups
from shared_models.contract.manifest import FederationSpec, LearningSpec, RefreshRule

TABLE = "pinrec"
"""The format of its original's tables."""


class Config(MethodConfig):
    """A trunk for everybody, and plugins for groups of users or for single devices."""

    export_only: ClassVar[frozenset[str]] = MethodConfig.export_only | {"learning"}

    plugins: Literal["cloud", "federated", "device", "none"] = Field(
        "cloud",
        description="Who trains them. cloud: the cloud, one for each group. federated: devices "
        "begin at their group's and train on. device: each device has one of its own. none: "
        "nobody, a control: the trunk is trained as long as with them.",
    )
    aggregation: Literal["rows", "groups"] = Field(
        "rows",
        description="How gradients count: each row alike, so that active users decide, or each "
        "group that is in the batch alike.",
    )
    groups: PositiveInt = Field(5, description="Groups of users, G.")
    grouped_by: str = Field(
        "activity",
        description="Quantiles of events in the training part; or a feature of users, whose "
        "values are the groups.",
    )
    bottleneck: PositiveInt = Field(16, description="Width of a plugin's hidden layer.")
    second_epochs: PositiveInt = Field(8, description="Most epochs after the trunk's own.")
    trunk_goes_on: bool = Field(
        True,
        description="Whether the trunk is trained on in them, at a tenth of the rate. Without it "
        "and without plugins in the cloud there are no such epochs.",
    )
    learning: LearningSpec = Field(
        LearningSpec(rate=1e-3, rows=128), description="How devices train plugins."
    )

    @property
    def grouped(self) -> bool:
        """Whether devices get the plugin of their group."""
        return self.plugins in ("cloud", "federated")

    @property
    @override
    def refresh(self) -> RefreshRule:
        """Once, for the group's plugin; each tenth event, where devices go on making it."""
        if self.plugins == "federated":
            return RefreshRule(rule="every-n", every=10)
        return RefreshRule(rule="once" if self.plugins == "cloud" else "never")

    @property
    def lessons(self) -> LearningSpec:
        """How devices learn: together, where plugins are federated."""
        if self.plugins != "federated":
            return self.learning.model_copy(update={"federation": None})
        together = self.learning.federation or FederationSpec()
        return self.learning.model_copy(update={"federation": together})

    @property
    @override
    def user_groups(self) -> UserGroups:
        """By activity, unless a feature is named."""
        return UserGroups(count=self.groups, by=self.grouped_by)

    @property
    @override
    def digest(self) -> str:
        """Of the control, where the cloud trains no plugins: their weights are its weights."""
        if self.plugins in ("cloud", "none"):
            return super().digest
        return self.model_copy(update={"plugins": "none"}).digest
