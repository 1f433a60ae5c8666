"""What is done to a run on purpose: a file of faults, and when each one happens.

    seed: 7
    faults:
      - {kind: kill-cloud, times: 3}
      - {kind: cut-link, round: 4, seconds: 10}

A fault happens in the round that it names, or in rounds that the seed draws; in either case at a
moment of that round which the seed draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from shared_models.contract.errors import BadSetting, PathMissing
from simulator.links import Link, Point
from simulator.rounds import Part

Poison = Literal["nan-weights", "flipped-byte", "test-vector", "no-graph", "newer-format"]
Count = Annotated[int, Field(strict=True, gt=0)]
LINKED: Final = ("cut-link", "slow-link")
"""Kinds that need a proxy between devices and cloud."""


class _Fault(BaseModel):
    """What all faults have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    round: Count | None = Field(None, description="In which it happens; None: the seed draws it.")
    times: Count = Field(1, description="How often; with a round, as often in that round.")


class KillCloud(_Fault):
    """The cloud is killed, and started again on the same address, journal and memory."""

    kind: Literal["kill-cloud"]
    failpoints: tuple[str, ...] = Field(
        (),
        description="NAME or NAME:NTH. Instead of at a moment, the cloud dies where it comes to "
        "the first of these places, its next life where it comes to the second, and so on.",
    )


class KillDevices(_Fault):
    """Device processes are killed and started again; their devices know what was reported."""

    kind: Literal["kill-devices"]
    processes: Count = Field(1, description="How many at once, drawn by the seed.")


class CutLink(_Fault):
    """Nothing passes between devices and cloud; connections stay open."""

    kind: Literal["cut-link"]
    seconds: PositiveFloat = Field(5.0, description="How long.")


class SlowLink(_Fault):
    """The link between devices and cloud becomes a bad one."""

    kind: Literal["slow-link"]
    seconds: PositiveFloat = Field(10.0, description="How long.")
    kbit: PositiveFloat = Field(256.0, description="Kbit/s each way, of each connection.")
    delay_ms: PositiveFloat = Field(500.0, description="Round trip.")

    @property
    def link(self) -> Link:
        """The bad link."""
        rate = self.kbit * 1e3
        return Link("slow", (Point(0.0, rate, rate, self.delay_ms / 1e3),))


class CorruptBundle(_Fault):
    """A byte of the bundle that a device process keeps is flipped, and the process is killed."""

    kind: Literal["corrupt-bundle"]


class PoisonRelease(_Fault):
    """A bad bundle is released in the cloud's folder, and offered to every device process."""

    kind: Literal["poison-release"]
    how: Poison = Field("nan-weights", description="What is wrong with it.")


class ClockJump(_Fault):
    """From then on the clocks of all devices are wrong."""

    kind: Literal["clock-jump"]
    seconds: float = Field(86_400.0, description="By how much; below 0: they are slow.")


Fault = Annotated[
    KillCloud | KillDevices | CutLink | SlowLink | CorruptBundle | PoisonRelease | ClockJump,
    Field(discriminator="kind"),
]


class Faults(BaseModel):
    """A file of faults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, strict=True, description="Draws when, where and whom.")
    faults: tuple[Fault, ...] = Field(min_length=1, description="What happens.")

    @property
    def needs_link(self) -> bool:
        """Whether a proxy must stand between devices and cloud."""
        return any(fault.kind in LINKED for fault in self.faults)

    @property
    def failpoints(self) -> tuple[str, ...]:
        """Where the cloud dies by itself, life by life."""
        return tuple(
            name
            for fault in self.faults
            if isinstance(fault, KillCloud)
            for name in fault.failpoints
        )


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault, once.

    Attributes:
        fault: what happens.
        round: in which.
        at: as soon as so many moments are ranked.
        seed: of what is drawn while it happens.
    """

    fault: Fault
    round: int
    at: int
    seed: int


def read_faults(file: Path) -> dict[str, Any]:
    """The fields of a file of faults; `simulator.scenario` checks them.

    Raises:
        PathMissing: there is no such file.
        BadSetting: it is not YAML, or not a mapping.
    """
    if not file.is_file():
        raise PathMissing(file, "file of faults")
    try:
        fields = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSetting(str(file), "not a YAML file") from error
    if not isinstance(fields, dict):
        raise BadSetting(str(file), "expected lines of `seed: 0` and `faults: [...]`")
    return fields


def strikes(faults: Faults, rounds: Sequence[Part]) -> list[Strike]:
    """When everything happens, in order; the same seed gives the same.

    Raises:
        BadSetting: a fault names a round that the replay does not have.
    """
    rng = np.random.default_rng(faults.seed)
    drawn = []
    for index, fault in enumerate(faults.faults):
        if isinstance(fault, KillCloud) and fault.failpoints:
            continue
        if fault.round is not None and fault.round > len(rounds):
            path = f"faults.{index}.round"
            raise BadSetting(path, f"the replay has {len(rounds)} rounds, not {fault.round}")
        for number in _rounds_of(fault, len(rounds), rng):
            part = rounds[number - 1]
            at = int(rng.integers(part.start, max(part.stop, part.start + 1)))
            drawn.append(Strike(fault, number, at, int(rng.integers(2**32))))
    return sorted(drawn, key=lambda strike: strike.at)


def _rounds_of(fault: Fault, rounds: int, rng: np.random.Generator) -> list[int]:
    """In which rounds a fault happens: another one each time, as long as there are some."""
    if fault.round is not None:
        return [fault.round] * fault.times
    turns = [rng.permutation(rounds) + 1 for _ in range(-(-fault.times // rounds))]
    return [int(number) for number in np.concatenate(turns)[: fault.times]]
