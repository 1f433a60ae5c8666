"""Settings of base."""

from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from typing_extensions import override

from shared_models.config import MethodConfig
from shared_models.contract.manifest import RankingSpec, RefreshRule, UplinkSpec


class Config(MethodConfig):
    """A trunk and its head, the same for everybody."""

    export_only: ClassVar[frozenset[str]] = MethodConfig.export_only | {"ranked"}

    ranked: Literal["device", "cloud"] = Field(
        "device",
        description="Who ranks: the device by itself, or the cloud before each ranking, the device "
        "only where the cloud does not answer.",
    )
    objective: Literal["bce", "softmax"] = Field(
        "bce",
        description="bce: each positive against its drawn negatives. softmax: cross entropy over "
        "the whole catalogue after every event, for trunks that have a state there; the right one "
        "where the whole catalogue is ranked.",
    )

    @field_validator("objective")
    @classmethod
    def _softmax_reads_a_state_after_every_event(cls, objective: str, info: ValidationInfo) -> str:
        trunk = info.data.get("trunk")
        if objective == "softmax" and trunk is not None:
            if trunk.name == "din":
                raise ValueError("din has no state after every event: choose sasrec or gru4rec")
            if trunk.name == "sasrec" and trunk.positions == "recency":
                raise ValueError(
                    "places counted from the newest event move with it: set trunk.positions=order"
                )
        return objective

    @property
    @override
    def refresh(self) -> RefreshRule:
        """Before each ranking, where the cloud ranks."""
        return RefreshRule(rule="always" if self.ranking else "never")

    @property
    @override
    def uplink(self) -> UplinkSpec | None:
        """The window, where the cloud ranks."""
        return UplinkSpec(items=self.features.window) if self.ranking else None

    @property
    @override
    def ranking(self) -> RankingSpec | None:
        """A list for each ranking, where the cloud ranks."""
        return RankingSpec() if self.ranked == "cloud" else None
