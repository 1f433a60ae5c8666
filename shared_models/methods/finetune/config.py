"""Settings of finetune."""

from pydantic import Field

from shared_models.config import MethodConfig
from shared_models.contract.manifest import LearningSpec


class Config(MethodConfig):
    """A trunk as in base, and how devices go on training its head."""

    learning: LearningSpec = Field(
        LearningSpec(rate=1e-3, rows=128), description="How devices train."
    )
