"""What a run is: every choice that a user can make, typed, frozen, and written down beside results.

Settings of training, trunk and methods are only carried here: the cloud knows what they mean and is
asked before anything is done.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared_models.logs.splits import SplitName
from simulator.entries import joined, read_entry
from simulator.faults import Faults

Count = Annotated[int, Field(strict=True, gt=0)]
Seed = Annotated[int, Field(strict=True, ge=0)]
Tree = dict[str, Any]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(_Settings):
    """Which columns of a user's own file hold what; None: the usual names."""

    user: str | None = Field(None, description="Users; by default `user`.")
    item: str | None = Field(None, description="Items; by default `item`.")
    time: str | None = Field(None, description="Times; by default `time`.")
    label: str | None = Field(None, description="Whether a shown item was taken; none: no labels.")
    request: str | None = Field(None, description="What was shown together; none: user and time.")


class Trunk(BaseModel):
    """The backbone: its name, and settings that the cloud checks."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = "sasrec"


class ReplaySettings(_Settings):
    """How the test part of the log is played."""

    round_events: Count = Field(2000, description="Moments in a round of virtual time.")
    candidates: Literal["shortlist-100", "session-100", "full"] = Field(
        "shortlist-100",
        description="The true item and 99 never-touched ones; what the session takes and "
        "never-touched ones, for a whole session; or the catalogue.",
    )
    retrain: Count | None = Field(
        None,
        description="Rounds after which the cloud trains on what was uploaded and releases that, "
        "again and again.",
    )
    moments: Count | None = Field(None, description="Play only the first so many; for quick looks.")


class Scenario(_Settings):
    """One experiment: methods x seeds, on one log, over a fleet of device processes."""

    methods: tuple[str, ...] = Field(
        ("base", "duet"), min_length=1, description="Methods, presets, or METHOD[path=value,...]."
    )
    against: tuple[str, ...] = Field(
        (), description="Which of them the others are compared with; none: the first."
    )
    trunk: Trunk = Trunk()
    log: str = Field("movielens-100k", description="A known log, or a CSV or Parquet file.")
    columns: Columns = Columns()
    split: SplitName = "user-tail"
    devices: Count = Field(4, description="Device processes; users are spread over them.")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="Model seeds, one run each.")
    data_seed: Seed = Field(0, description="Chooses test candidates; shared by all runs.")
    out: Path | None = Field(None, description="Where results go; None: a name under runs/.")
    train: Tree = Field(default_factory=dict, description="Training settings, for the cloud.")
    settings: dict[str, Tree] = Field(
        default_factory=dict, description="Settings of single methods, for the cloud."
    )
    replay: ReplaySettings = ReplaySettings()
    device: Tree = Field(default_factory=dict, description="Settings of every device.")
    cloud: Tree = Field(default_factory=dict, description="Flags of the serving cloud.")
    link: str | None = Field(
        None,
        description="Play each session over such a link in real time: a profile or a trace file.",
    )
    faults: Faults | None = Field(None, description="What is done to each run on purpose.")
    history: bool = Field(
        False, description="Write down what is acknowledged; faults do that in any case."
    )
    links: tuple[str, ...] = Field(
        ("wifi", "5g", "4g", "3g"), description="Model latency over each of these."
    )

    @field_validator("methods", "against", "seeds", "links")
    @classmethod
    def _no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("name each one once")
        return values

    @model_validator(mode="after")
    def _settings_belong_to_methods(self) -> Self:
        entries = [read_entry(text) for text in self.methods]
        if len({entry.label for entry in entries}) < len(entries):
            raise ValueError("two entries have the same name")
        for name in self.settings.keys() - {entry.method for entry in entries}:
            raise ValueError(f"there are settings for {name!r}, which is not among the methods")
        for label in set(self.against) - {entry.label for entry in entries}:
            raise ValueError(f"{label!r} is to be compared with, but it is not among the methods")
        return self

    @property
    def folder(self) -> Path:
        """Where the results go."""
        names = joined(self.methods), self.trunk.name, Path(self.log).stem
        return self.out or Path("runs") / ".".join(names)

    @property
    def expected(self) -> int | None:
        """Device processes that were asked for; None where nobody said how many."""
        return self.devices if "devices" in self.model_fields_set else None

    @property
    def references(self) -> tuple[str, ...]:
        """The entries that others are compared with."""
        return self.against or (read_entry(self.methods[0]).label,)

    @property
    def device_settings(self) -> Tree:
        """Settings of every device; on a link, each session has one of its own unless said."""
        return self.device if self.link is None else {"channel": "own", **self.device}

    @property
    def cloud_flags(self) -> list[str]:
        """The ``path=value`` settings of the serving cloud."""
        return assignments(self.cloud)

    @property
    def recipe(self) -> list[str]:
        """The arguments of a cloud that goes on training."""
        given = assignments({"train": self.train})
        return [part for text in given for part in ("--set", text)]

    def cloud_settings(self, method: str) -> list[str]:
        """The ``path=value`` settings that the cloud must check and use for ``method``."""
        sections = {
            "train": self.train,
            "trunk": self.trunk.model_extra or {},
            method: self.settings.get(method, {}),
        }
        return assignments(sections)


def dump(scenario: Scenario) -> str:
    """The scenario as YAML that `simulator.compose` reads back."""
    return yaml.safe_dump(scenario.model_dump(mode="json"), sort_keys=False)


def assignments(tree: Tree) -> list[str]:
    """The leaves of settings as ``path=value``."""
    return [f"{path}={json.dumps(value)}" for path, value in _leaves(tree)]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
