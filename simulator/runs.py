"""What is played, and what an experiment must say of how."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol

from typing_extensions import TypeVar

from simulator.cache import Resolved, Trained
from simulator.coordinator import DeviceLink
from simulator.drill import Drill
from simulator.entries import slug
from simulator.faults import Faults
from simulator.replay import Account, Release, Replay, Retrain
from simulator.retraining import Continual
from simulator.wire import CloudAccount


class Setting(Protocol):
    """What a stage must know of an experiment."""

    @property
    def folder(self) -> Path:
        """Where results and logs go."""
        ...

    @property
    def devices(self) -> int:
        """Device processes."""
        ...

    @property
    def expected(self) -> int | None:
        """Device processes to wait for where they come by themselves; None: whoever comes."""
        ...

    @property
    def data_seed(self) -> int:
        """Of what is drawn beside the models."""
        ...

    @property
    def link(self) -> str | None:
        """What sessions are played over in real time."""
        ...

    @property
    def faults(self) -> Faults | None:
        """What is done to its runs on purpose."""
        ...


class Playable(Protocol):
    """What device processes play."""

    @property
    def releases(self) -> Sequence[Release]:
        """The bundles that they ran so far."""
        ...

    async def play(
        self, links: Sequence[DeviceLink], retrain: Retrain | None = None
    ) -> list[Account]:
        """Play it to its end."""
        ...


R_co = TypeVar("R_co", bound=Playable, default=Replay, covariant=True)


@dataclass(slots=True)
class Run(Generic[R_co]):
    """One (entry, seed): its model, its replay, and what the devices said at the end.

    Attributes:
        label: of the entry.
        flags: ``path=value`` settings of the serving cloud.
        continual: how its cloud goes on training, where the replay wants that.
        accounts: empty as long as the replay has not come to its end.
        cloud: the cloud's own account; None where it left none.
        in_flight: most asks that a device process has under way on a connection.
        seconds: measured, from the first order to the last word.
        history: whether devices write down what is acknowledged.
        drill: what is done to it on purpose, and what was seen of that.
    """

    label: str
    resolved: Resolved
    seed: int
    trained: Trained
    replay: R_co
    flags: Sequence[str] = ()
    continual: Continual | None = None
    accounts: Sequence[Account] = ()
    cloud: CloudAccount | None = None
    in_flight: int = 64
    seconds: float = 0.0
    history: bool = False
    drill: Drill | None = None

    @property
    def name(self) -> str:
        """As in ``duet-0``: part of file names."""
        return run_name(self.label, self.seed)

    @property
    def title(self) -> str:
        """As in ``duet (sasrec, seed 0)``."""
        return f"{self.label} ({self.resolved.trunk}, seed {self.seed})"


def run_name(label: str, seed: int) -> str:
    """Of a run in file names."""
    return f"{slug(label)}-{seed}"
