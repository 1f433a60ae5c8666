"""Settings of GGCN."""

from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from shared_models.config import NodeConfig


class Decorrelation(BaseModel):
    """How training nodes are weighed so that nothing goes together with anything else by chance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: Literal["heard", "state"] = Field(
        "heard",
        description="heard: a node's features and what it hears of them. state: the network's last "
        "hidden state, where features are too many.",
    )
    functions: PositiveInt = Field(5, description="Random Fourier features of a dimension, Q.")
    dimensions: PositiveInt = Field(16, description="Dimensions drawn for a step.")
    steps: PositiveInt = Field(5, description="Steps of Adam before each step of the network.")
    rate: PositiveFloat = Field(0.05, description="Learning rate of the weights.")
    pull: NonNegativeFloat = Field(
        0.1, description="What holds weights to 1, times their variance."
    )


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

    decorrelate: Decorrelation | None = Field(
        None, description="Against shift between cloud and devices; None: all nodes weigh alike."
    )

    @model_validator(mode="after")
    def _has_a_device_network_to_shape(self) -> Self:
        if self.device_layers is not None and self.device_width is None:
            raise ValueError("device_layers shapes the devices' own network: set device_width too")
        return self
