"""The manifest: what a bundle says of itself, as data that a device can obey."""

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from shared_models.contract.errors import BundleCorrupt, BundleIncompatible
from shared_models.contract.features import FeatureSpec
from shared_models.contract.nodes import NodeSpec
from shared_models.contract.tensors import TensorSpec

FORMAT: Final = 5


Between = Literal["keep", "rerank", "controller"]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(StrEnum):
    """What a device does with a bundle."""

    RANKING = "ranking"
    NODE_CLASSIFICATION = "node-classification"


class FileSpec(_Data):
    """A file of the bundle and what names its content."""

    sha256: str
    size: NonNegativeInt


class GraphSpec(_Data):
    """An ONNX graph: its file and its ports."""

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class RefreshRule(_Data):
    """When a device asks for new slot values, and how long it believes old ones.

    ``rule`` is ``never``, ``once``, ``always`` (before each ranking), ``every-n`` (each n events),
    ``random`` (a share of the rankings, drawn by user and event), or one that reads the bundle's
    controller: ``on-change`` (the window moved away from that of the last refresh) and ``learnt``
    (the expected gain is worth it). The first refresh of a device is always due, except with
    ``never``; with ``once`` it is the only one.
    """

    rule: Literal["never", "once", "always", "every-n", "random", "on-change", "learnt"] = "never"
    every: PositiveInt = Field(1, description="Events between two refreshes, for every-n.")
    share: float = Field(
        0.1, gt=0, le=1, description="Share of rankings that refresh, for random and controllers."
    )
    threshold: float | None = Field(
        None, description="Of the controller's output; by default what calibration has for share."
    )
    budget: PositiveFloat | None = Field(
        None, description="Payload bytes per ranking that refreshes may cost on average."
    )
    max_age: NonNegativeInt | None = Field(
        None, description="Oldest overlay, in events, that still ranks; the defaults past it."
    )


class ControllerSpec(_Data):
    """What the graph ``controller`` says of the uplink's window now and at the last refresh.

    Attributes:
        calibration: by output (``change``, ``gain``), the thresholds at which a device of the
            validation part refreshes before 1 %, 2 %, ... 100 % of its rankings.
    """

    calibration: Mapping[str, tuple[float, ...]]

    def threshold(self, output: str, share: float) -> float:
        """The threshold of ``output`` at which ``share`` of the rankings refresh."""
        table = self.calibration[output]
        shares = np.arange(1, len(table) + 1) / len(table)
        return float(np.interp(share, shares, table))


class FederationSpec(_Data):
    """How what devices learn becomes the next version of the values that all of a group share.

    A group's next values are its present ones plus ``rate`` times the contributors' combined
    moves: their mean, each weighed by its examples, or, with ``trimmed``, in each number the plain
    mean of what is left without the ``trim`` share at either end, after all moves were cut down to
    the length of the middle one. A contribution that started up to ``stale`` versions ago counts
    as a move from the present values; an older one is dropped.
    """

    norm: PositiveFloat = Field(
        1.0, description="Longest move, Euclidean over all slots; devices cut theirs down to it."
    )
    stale: NonNegativeInt = Field(2, description="Versions that a contribution may be behind.")
    combine: Literal["mean", "trimmed"] = "mean"
    trim: float = Field(0.2, ge=0, lt=0.5, description="Share dropped at either end, for trimmed.")
    rate: PositiveFloat = Field(1.0, description="Of the combined move, how much is taken.")
    quorum: PositiveInt = Field(
        16, description="Contributors that make a version; in a replay, a round's end does."
    )
    outlives: bool = Field(
        False,
        description="Whether the values serve a later bundle of the method with the same slots.",
    )


class LearningSpec(_Data):
    """How a device trains its slots on its own events with the graph ``grad`` and Adam."""

    rate: PositiveFloat = Field(1e-3, description="Learning rate of Adam.")
    every: PositiveInt = Field(1, description="Events between two rounds of learning.")
    steps: PositiveInt = Field(1, description="Steps of Adam in a round.")
    rows: PositiveInt = Field(16, description="Newest events that a step learns from.")
    negatives: PositiveInt = Field(4, description="Items drawn for each of them.")
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    epsilon: PositiveFloat = 1e-8
    federation: FederationSpec | None = Field(
        None, description="How devices learn together; without it, each learns for itself."
    )


class UplinkSpec(_Data):
    """What a refresh sends up.

    The newest ``items`` item ids; or, where ``outputs`` names some, only these outputs of the graph
    ``encoder`` over them; or, where it is ``pending``, the events that the cloud has not stored
    yet, which then reads the newest ``items`` of the user's history.
    """

    items: PositiveInt
    outputs: tuple[str, ...] = ()
    pending: bool = False

    @model_validator(mode="after")
    def _sends_one_thing(self) -> Self:
        if self.pending and self.outputs:
            raise ValueError("an uplink has events or outputs, not both")
        return self


class GroupSpec(_Data):
    """Slots whose values are the same for all users of a group.

    A refresh tells the group's number, from 1 on; the values come down once, when it changes.
    """

    count: PositiveInt
    slots: tuple[str, ...]


class RankingSpec(_Data):
    """How the cloud ranks for devices: a refresh brings its scores, a list that lasts a session.

    The uplink's window goes up, and the candidates where they are few; the refresh rule says when.
    ``between`` says what a device does with its list until then: ``keep`` its order, ``rerank``
    the candidates with its own scorer, or what the bundle's ``controller`` finds best. Without a
    list, a device ranks with its own scorer.
    """

    longest: PositiveInt = Field(
        100,
        description="Most candidates that go up; of more, the cloud retrieves so many of its best.",
    )
    between: Between = "rerank"


class MemorySpec(_Data):
    """A vector that the cloud keeps of each user."""

    name: str
    width: PositiveInt


class Manifest(_Data):
    """What a device must know to run a method that it has never heard of."""

    model_config = ConfigDict(serialize_by_alias=True)

    format: int = FORMAT
    task: Task = Task.RANKING
    method: str
    config: Mapping[str, Any] = Field(description="Resolved settings; for people and for caches.")
    log_hash: str = Field(description="Prepared log or graph that the model was trained on.")
    behaviour: FeatureSpec | None = Field(
        None, alias="features", description="How graphs read a window and candidates, to rank."
    )
    nodes: NodeSpec | None = Field(None, description="What the graph reads of nodes, to classify.")
    graphs: Mapping[str, GraphSpec]
    slots: tuple[TensorSpec, ...] = ()
    refresh: RefreshRule = RefreshRule()
    uplink: UplinkSpec | None = None
    controller: ControllerSpec | None = None
    ranking: RankingSpec | None = Field(None, description="How the cloud ranks, where it does.")
    learning: LearningSpec | None = None
    groups: GroupSpec | None = None
    memory: MemorySpec | None = Field(None, description="What the cloud keeps of each user.")
    neighbours: NonNegativeInt = Field(0, description="Users whose vectors a refresh reads.")
    uploads: bool = Field(False, description="Whether the device may upload events.")
    cross_user: bool = Field(False, description="Whether the cloud reads across users.")
    files: Mapping[str, FileSpec]

    @model_validator(mode="after")
    def _ranks_for_a_window(self) -> Self:
        if self.ranking and self.uplink is None:
            raise ValueError("the cloud ranks for a window: an uplink says how long it is")
        return self

    @model_validator(mode="after")
    def _contributes_without_an_uplink(self) -> Self:
        if self.federation and self.uplink:
            raise ValueError("devices that learn together get their slots by group, not by uplink")
        return self

    @model_validator(mode="after")
    def _reads_what_its_task_needs(self) -> Self:
        reads = {Task.RANKING: self.behaviour, Task.NODE_CLASSIFICATION: self.nodes}
        if [task for task, spec in reads.items() if spec is not None] != [self.task]:
            raise ValueError(f"a bundle for {self.task} reads that task's inputs and no others")
        return self

    @property
    def features(self) -> FeatureSpec:
        """How behaviour is encoded.

        Raises:
            BundleIncompatible: the bundle does not rank.
        """
        if self.behaviour is None:
            raise BundleIncompatible(f"a bundle of {self.method} is for {self.task}, not ranking")
        return self.behaviour

    @property
    def federation(self) -> FederationSpec | None:
        """How devices learn together; None where they do not."""
        return self.learning.federation if self.learning else None

    @property
    def asks(self) -> bool:
        """Whether there is anything that a refresh could bring."""
        brings_slots = bool(self.slots) and (self.uplink is not None or self.shares)
        return self.ranking is not None or brings_slots

    @property
    def shares(self) -> bool:
        """Whether a refresh asks for what the user's group shares, and sends nothing up."""
        return self.uplink is None and bool(self.groups or self.federation)

    @property
    def slot_schema(self) -> str:
        """Hash over the slots' names, types and shapes; overlays outlive a release under it."""
        text = json.dumps([slot.model_dump(mode="json") for slot in self.slots], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def parse_manifest(manifest_bytes: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        BundleCorrupt: it is not one.
        BundleIncompatible: it is of another version.
    """
    try:
        fields = json.loads(manifest_bytes)
        version = fields.get("format")
    except (ValueError, AttributeError, RecursionError) as error:
        raise BundleCorrupt("the manifest is not JSON") from error
    if version != FORMAT:
        raise BundleIncompatible(
            f"the bundle has format {version}, this program reads {FORMAT}: export it again"
        )
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        raise BundleCorrupt(f"the manifest is malformed: {error.errors()[0]['loc']}") from error
