"""Settings of base."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from shared_models.config import MethodConfig


class Config(MethodConfig):
    """A trunk and its head, the same for everybody."""

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
