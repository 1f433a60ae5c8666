"""Settings of popularity."""

from shared_models.config import MethodConfig


class Config(MethodConfig):
    """Nothing to set; the trunk is not used."""
