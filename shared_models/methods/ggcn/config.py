"""Settings of GGCN."""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from shared_models.config import NodeConfig


class Config(NodeConfig):
    """A graph network for the cloud, and what devices get of it."""

    width: PositiveInt = Field(64, description="Width D of the cloud's network.")
    layers: NonNegativeInt = Field(2, description="Its layers; 0 reads no edges.")
    depths: tuple[NonNegativeInt, ...] = Field(
        (), description="Layers to choose among by validation, in place of layers."
    )
    device_width: PositiveInt | None = Field(
        None, description="Of a network of its own for devices; None: they run the cloud's."
    )
    device_layers: NonNegativeInt | None = Field(
        None, description="Layers of it; as many as the cloud's by default."
    )
    distil: float = Field(
        0.5, ge=0, le=1, description="Share of the cloud's opinion in what that network learns."
    )
    alpha: float = Field(0.5, ge=0, le=1, description="Share of a node's own features.")
    decay: PositiveFloat = Field(1.0, description="λ: layers are nearer to the identity by depth.")
    variant: bool = Field(False, description="Whether neighbours and own features differ in W.")
    residual: bool = Field(True, description="Whether a layer adds what came in.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Share of values dropped in training.")
    scale: Literal["rows", "none"] = Field(
        "rows", description="rows: the features of a node sum to 1, inside the network."
    )

    @model_validator(mode="after")
    def _has_a_device_network_to_shape(self) -> Self:
        if self.device_layers is not None and self.device_width is None:
            raise ValueError("device_layers shapes the devices' own network: set device_width too")
        return self
