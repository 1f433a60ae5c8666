"""Settings of base."""

from shared_models.config import MethodConfig


class Config(MethodConfig):
    """A trunk and its head, the same for everybody; nothing to set beyond the trunk."""
