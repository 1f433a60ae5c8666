"""What a method's settings are made of; torch-free, so that names and types are checked at once."""

import hashlib
import json
from typing import ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from shared_models.contract.features import FeatureSpec
from shared_models.contract.manifest import (
    MemorySpec,
    RankingSpec,
    RefreshRule,
    Task,
    UplinkSpec,
)
from shared_models.contract.nodes import NodeSpec

TrunkName = Literal["sasrec", "gru4rec", "din", "pool"]


class ItemGraph(BaseModel):
    """The network over the graph of a log's items that a trunk's item vectors lean on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: Literal["ggcn"] = Field("ggcn", description="The method whose network it is.")
    labels: str | None = Field(
        None,
        description="Column of items whose words it learns to tell; None: every feature of items "
        "that models can read.",
    )
    width: PositiveInt = Field(64, description="Of what it says of an item, F.")
    layers: NonNegativeInt = Field(2, description="Its layers; 0 reads no edges.")


class TrunkConfig(BaseModel):
    """The backbone that a method builds on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: TrunkName = "sasrec"
    width: PositiveInt = Field(32, description="Width D of embeddings and states.")
    blocks: PositiveInt = Field(1, description="Attention blocks (sasrec).")
    heads: PositiveInt = Field(4, description="Attention heads (sasrec, din).")
    positions: Literal["recency", "order"] = Field(
        "recency",
        description="What a place in the window means (sasrec): events before the newest one, or "
        "events after the oldest one, as in the paper.",
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="Share of embedding values dropped.")
    embedding_scale: float = Field(0.05, gt=0, description="Standard deviation at the start.")
    popularity_bias: bool = Field(
        False, description="Start each item's bias at the log of its popularity instead of 0."
    )
    features: Literal["none", "graph", "graph-shuffled"] = Field(
        "none",
        description="What item vectors hold beside those of their ids. graph: a projection of what "
        "a network over the items' graph says of them. graph-shuffled: of what it says of another "
        "item, as a control.",
    )
    graph: ItemGraph = Field(ItemGraph(), description="That network (features).")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self

    @property
    def reads_graph(self) -> bool:
        """Whether its item vectors are made with a network over the items' graph."""
        return self.features != "none"


class NeighbourSpec(BaseModel):
    """Users whose behaviour says something of another one's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: PositiveInt = Field(10, description="Most neighbours of a user, N.")
    chosen: Literal["alike", "told", "random"] = Field(
        "alike",
        description="Who they are: the most similar users, those that the log names, or anybody, "
        "as a control.",
    )
    events: PositiveInt = Field(100, description="Newest events of each that are read, L.")
    seen: Literal["target", "end"] = Field(
        "end",
        description="What training knows of them: their events before the target's time, or all "
        "of their training events, whenever they were.",
    )


class UserGroups(BaseModel):
    """Users who are alike in how much they do, or in a feature."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: PositiveInt = Field(5, description="Groups, G.")
    by: str = Field(
        "activity",
        description="activity: quantiles of events in the training part, the least active first. "
        "Or the name of a feature of users, whose values are the groups.",
    )


class AnyConfig(BaseModel):
    """What may differ between two runs of a method; frozen, so that a hash names the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: ClassVar[Task]
    export_only: ClassVar[frozenset[str]] = frozenset()
    """Settings that shape the bundle and leave the weights alone."""

    @property
    def digest(self) -> str:
        """SHA-256 over every setting that shapes the weights."""
        fields = self.model_dump(mode="json", exclude=set(self.export_only))
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


class NodeConfig(AnyConfig):
    """Of a method that classifies the nodes of a graph."""

    task: ClassVar[Task] = Task.NODE_CLASSIFICATION

    nodes: NodeSpec
    absent: Literal["degree", "identity"] = Field(
        "degree", description="What stands for features where a graph comes without any."
    )


class MethodConfig(AnyConfig):
    """Of a method that ranks items."""

    task: ClassVar[Task] = Task.RANKING
    export_only: ClassVar[frozenset[str]] = frozenset({"uploads"})
    reads_profile: ClassVar[bool] = False
    """Whether its models read the features of the user too, where ``fields`` is set."""

    features: FeatureSpec
    trunk: TrunkConfig = TrunkConfig()
    uploads: bool = Field(False, description="Whether devices upload the events they see.")
    fields: bool = Field(False, description="Whether models read the log's features of items.")

    @property
    def refresh(self) -> RefreshRule:
        """When devices ask for slot values."""
        return RefreshRule()

    @property
    def uplink(self) -> UplinkSpec | None:
        """What a refresh sends up."""
        return None

    @property
    def ranking(self) -> RankingSpec | None:
        """How the cloud ranks for devices, where it does."""
        return None

    @property
    def memory(self) -> MemorySpec | None:
        """What the cloud keeps of each user."""
        return None

    @property
    def neighbours(self) -> NeighbourSpec | None:
        """Whose behaviour training reads beside the user's own."""
        return None

    @property
    def user_groups(self) -> UserGroups | None:
        """Groups of users that models know, as the cloud assigns them."""
        return None

    @property
    def history(self) -> int:
        """Events before a target that training needs, H."""
        return self.features.window

    @property
    def device_features(self) -> FeatureSpec:
        """How devices encode a window."""
        return self.features
