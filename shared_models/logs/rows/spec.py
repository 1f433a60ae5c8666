"""How rows that are no log become numbers, as data."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from shared_models.contract.settings import Sizes


class RowsSpec(BaseModel):
    """How the cells of a table are numbered, or what random rows are like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    categories: Literal["hash", "vocabulary"] = Field(
        "hash",
        description="How a table's categories are numbered: by their remainder, so that a table of "
        "embeddings is as large as wanted; or in order of how often they are in the training part.",
    )
    values: int = Field(
        10_000, ge=2, description="Values of each category, with hash; 0 is for what is missing."
    )
    at_least: PositiveInt = Field(
        1, description="Training rows that a value must be in, with vocabulary, or it is missing."
    )
    tables: Sizes = Field(
        (1000,) * 8,
        validate_default=True,
        description="Of random rows: values of each category (arch-embedding-size).",
    )
    lookups: PositiveInt = Field(
        10, description="Of random rows: most ids in a bag (num-indices-per-lookup)."
    )
    fixed: bool = Field(
        False,
        description="Whether bags are as full as they may be (num-indices-per-lookup-fixed).",
    )
    round_targets: bool = Field(
        True, description="Whether random labels are 0 or 1, or anything between (round-targets)."
    )
