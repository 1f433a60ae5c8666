"""Settings of finetune."""

from pydantic import Field
from typing_extensions import override

from shared_models.config import MethodConfig
from shared_models.contract.manifest import LearningSpec, RefreshRule


class Config(MethodConfig):
    """A trunk as in base, and how devices go on training its head."""

    learning: LearningSpec = Field(
        LearningSpec(rate=1e-3, rows=128), description="How devices train."
    )

    @property
    @override
    def refresh(self) -> RefreshRule:
        """Each tenth event, where devices learn together: a contribution up, new values down."""
        together = self.learning.federation is not None
        return RefreshRule(rule="every-n", every=10) if together else RefreshRule()
