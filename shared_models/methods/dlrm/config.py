"""Settings of dlrm: the flags of the original, by their names and with their meaning."""

from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from typing_extensions import override

from shared_models.config import MethodConfig
from shared_models.contract.manifest import RankingSpec, RefreshRule, UplinkSpec
from shared_models.contract.settings import Sizes


class Architecture(BaseModel):
    """The network, its loss and its optimiser."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bottom: Sizes = Field(
        (13, 512, 256, 64, 16),
        validate_default=True,
        description="Widths of the bottom perceptron, from dense features to the width of "
        "embeddings; ReLU after every layer (arch-mlp-bot).",
    )
    top: Sizes = Field(
        (512, 256, 1),
        validate_default=True,
        description="Widths of the top perceptron after its input, which follows from the rest; "
        "the last one is 1 (arch-mlp-top).",
    )
    interaction: Literal["dot", "cat"] = Field(
        "dot", description="How features meet: by products, or side by side (arch-interaction-op)."
    )
    itself: bool = Field(
        False,
        description="Whether a feature's product with itself counts too (arch-interaction-itself).",
    )
    loss: Literal["mse", "bce"] = Field("bce", description="loss-function.")
    loss_threshold: float = Field(
        0.0, ge=0, lt=0.5, description="Probabilities are kept this far from 0 and 1."
    )
    optimizer: Literal["sgd", "adagrad", "rowwise-adagrad"] = Field(
        "rowwise-adagrad",
        description="Of rows that are no log; perceptrons get the plain one of the two.",
    )
    remainder: Literal["off", "mult", "add", "concat"] = Field(
        "off",
        description="Quotient-remainder tables (arXiv:1909.02107): a value's vector is made of a "
        "row of quotients and one of remainders, multiplied, added or side by side (qr-flag).",
    )
    collisions: int = Field(
        4, ge=2, description="Values that share a row of quotients (qr-collisions)."
    )
    mixed_dimension: bool = Field(
        False,
        description="Narrower rows, and a projection, the more values a feature has "
        "(arXiv:1909.11810; md-flag).",
    )
    temperature: float = Field(
        0.3, ge=0, description="How fast widths fall with values (md-temperature)."
    )
    round_dims: bool = Field(True, description="Whether they are powers of 2 (md-round-dims).")
    threshold: PositiveInt = Field(
        200, description="Features with more values than this get such tables (qr-, md-threshold)."
    )
    bits: Literal[8, 32] = Field(
        32,
        description="Of each number in tables that are exported or only infer "
        "(quantize-emb-with-bit); 8 has a scale and a least value for each row.",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.top[-1] != 1:
            raise ValueError(f"top ends with {self.top[-1]}: its last width must be 1")
        if len(self.bottom) < 2:
            raise ValueError("bottom needs two sizes: dense features, and width of embeddings")
        if self.itself and self.interaction == "cat":
            raise ValueError("itself is of products: set interaction=dot")
        if self.mixed_dimension and self.remainder != "off":
            raise ValueError("remainder and mixed_dimension exclude each other: choose one")
        if self.remainder == "concat" and self.width % 2:
            raise ValueError(f"concat takes two rows of half the width, and {self.width} is odd")
        return self

    @property
    def width(self) -> int:
        """Of embeddings, D (arch-sparse-feature-size)."""
        return self.bottom[-1]

    def top_sizes(self, features: int) -> tuple[int, ...]:
        """All widths of the top perceptron, where so many features are looked up."""
        meeting = features + 1
        if self.interaction == "cat":
            return (meeting * self.width, *self.top)
        pairs = meeting * (meeting + 1 if self.itself else meeting - 1) // 2
        return (self.width + pairs, *self.top)


class Config(Architecture, MethodConfig):
    """The network in the cloud over a log's features, and a trunk for devices when it is away."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    export_only: ClassVar[frozenset[str]] = MethodConfig.export_only | {"bits"}
    reads_profile: ClassVar[bool] = True

    fields: bool = Field(True, description="Whether models read features of items and users.")
    cloud_window: PositiveInt = Field(50, description="Events that the cloud's network sees.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Share of looked-up values dropped.")
    bottom: Sizes = Field(
        (5, 64, 32),
        validate_default=True,
        description="Of the bottom perceptron; a window and a candidate give five dense features.",
    )
    top: Sizes = Field((128, 64, 1), validate_default=True, description="Of the top perceptron.")

    @model_validator(mode="after")
    def _reads_five(self) -> Self:
        if self.bottom[0] != 5:
            raise ValueError(
                f"a log gives 5 dense features, and bottom begins with {self.bottom[0]}"
            )
        return self

    @property
    @override
    def refresh(self) -> RefreshRule:
        """Before each ranking."""
        return RefreshRule(rule="always")

    @property
    @override
    def uplink(self) -> UplinkSpec:
        return UplinkSpec(items=self.cloud_window)

    @property
    @override
    def ranking(self) -> RankingSpec:
        """By itself where the cloud does not answer: an old list is of other candidates."""
        return RankingSpec(between="rerank")

    @property
    @override
    def history(self) -> int:
        return max(self.features.window, self.cloud_window)


ROWS = Architecture
"""What its network over rows that are no log is set by."""
