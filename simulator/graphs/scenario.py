"""What a run on a graph is: which parts of it devices hold, and how these grow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from shared_models.contract.errors import UnknownName
from shared_models.contract.settings import parse_settings, validated
from simulator.entries import Entry, joined, read_entry
from simulator.scenario import Count, Seed, Tree, assignments

_SECTIONS: Final = ("graph", "train", "device", "cloud")
Strength = Annotated[float, Field(ge=0, le=1)]


class Holdings(BaseModel):
    """What devices hold, drawn from the test part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["ego", "component"] = Field(
        "ego", description="All that is near a test node, or all that hangs together with it."
    )
    hops: Count = Field(2, description="Edges from the centre of an ego graph, at most.")
    nodes: Count = Field(200, description="Most nodes of a device, the nearest ones.")
    devices: Count = Field(60, description="Virtual devices at each strength of the shift.")
    shift: Literal["classes", "degree"] = Field(
        "classes",
        description="classes: centres of rare classes become more likely; at .5 all classes are "
        "alike, at 1 their balance is turned round. degree: centres with few neighbours do.",
    )
    strengths: tuple[Strength, ...] = Field(
        (0.0, 0.5, 1.0), min_length=1, description="Of the shift; 0 is the test part as it is."
    )
    steps: Count = Field(3, description="Times at which nodes and edges arrive, the nearest first.")


class GraphScenario(BaseModel):
    """One experiment: methods x seeds, on one graph, over a fleet of device processes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: tuple[str, ...] = Field(
        ("ggcn",), min_length=1, description="Methods, or METHOD[path=value,...]."
    )
    prefix: Path = Field(description="Of the graph's files.")
    devices: Count = Field(2, description="Device processes; devices are spread over them.")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="Model seeds, one run each.")
    data_seed: Seed = Field(0, description="Draws what devices hold; shared by all runs.")
    out: Path | None = Field(None, description="Where results go; None: a name under runs/.")
    graph: Holdings = Holdings()
    train: Tree = Field(default_factory=dict, description="Training settings, for the cloud.")
    settings: dict[str, Tree] = Field(
        default_factory=dict, description="Settings of single methods, for the cloud."
    )
    device: Tree = Field(default_factory=dict, description="Settings of every device.")
    cloud: Tree = Field(default_factory=dict, description="Flags of the serving cloud.")
    link: None = None
    faults: None = None

    @field_validator("methods", "seeds")
    @classmethod
    def _no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("name each one once")
        return values

    @field_validator("methods")
    @classmethod
    def _names_differ(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        if len({read_entry(text).label for text in methods}) < len(methods):
            raise ValueError("two entries have the same name")
        return methods

    @property
    def expected(self) -> int | None:
        """Device processes that were asked for; None where nobody said how many."""
        return self.devices if "devices" in self.model_fields_set else None

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.out or Path("runs") / f"{joined(self.methods)}.{self.prefix.name}"

    def cloud_settings(self, entry: Entry) -> list[str]:
        """The ``path=value`` settings that the cloud must check and use for ``entry``.

        Raises:
            UnknownName: the entry sets what all of a run share.
        """
        own = parse_settings(entry.assignments)
        for section in own.keys() - {"train", entry.method}:
            name = f"setting of the entry {entry.label!r}"
            raise UnknownName(name, section, ("train", entry.method))
        common = {"train": self.train, entry.method: self.settings.get(entry.method, {})}
        # What comes later wins.
        return [*assignments(common), *entry.assignments]


def graph_scenario(options: Mapping[str, Any], pairs: Sequence[str]) -> GraphScenario:
    """The scenario of some options and ``path=value`` assignments.

    Raises:
        UnknownName: a setting that does not exist.
        BadSetting: a value of a wrong type or without sense.
    """
    methods = options.get("methods", GraphScenario.model_fields["methods"].default)
    own = [read_entry(text).method for text in methods]
    given = parse_settings(pairs)
    for section in given.keys() - {*_SECTIONS, *own}:
        raise UnknownName("setting", section, (*_SECTIONS, *own))
    settings = {name: given.pop(name) for name in own if name in given}
    graph = validated(Holdings, "graph", given.pop("graph", {}))
    fields = {**options, **given, "graph": graph, "settings": settings}
    return validated(GraphScenario, "", fields)
