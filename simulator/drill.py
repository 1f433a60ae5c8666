"""A run under faults: its history, the faults, and the verdict over what was acknowledged."""

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from simulator.chaos import Chaos, Seen
from simulator.faults import Faults, strikes
from simulator.history import Verdict
from simulator.keeper import CloudKeeper, Death
from simulator.replay import Replay

_RETRAINING = "retrain."
"""Failpoints of a training, which is a process of its own."""


@dataclass(slots=True)
class Drill:
    """What is to happen in a run, and what was seen of it.

    Attributes:
        faults: the file.
        chaos: carries out what happens at a moment.
        serving: failpoints of the serving cloud, life by life.
        retraining: failpoints of its trainings that are still to be come to.
        deaths: of clouds, killed ones included.
        failed_trainings: failpoints at which trainings died.
        unreached: failpoints to which nothing came.
        verdicts: whether what was acknowledged is there.
    """

    faults: Faults
    chaos: Chaos
    serving: tuple[str, ...]
    retraining: deque[str]
    deaths: list[Death] = field(default_factory=list)
    failed_trainings: list[str] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)
    verdicts: tuple[Verdict, ...] = ()

    def conclude(self, keeper: CloudKeeper) -> None:
        """Take down how the cloud fared."""
        self.deaths = list(keeper.deaths)
        self.unreached += [*keeper.unreached, *self.retraining]

    @property
    def told(self) -> dict[str, Any]:
        """For ``metrics.json``."""
        return {
            "seed": self.faults.seed,
            "played": [asdict(seen) for seen in self.seen()],
            "starts_s": [death.start_s for death in self.deaths if death.start_s],
            "checked": [asdict(verdict) for verdict in self.verdicts],
        }

    def seen(self) -> Iterator[Seen]:
        """Everything that was played, for people."""
        yield from self.chaos.seen
        for death in (each for each in self.deaths if each.place):
            yield Seen("kill-cloud", None, None, f"died at {death.place}", death.back_s)
        for place in self.failed_trainings:
            yield Seen("kill-cloud", None, None, f"its training died at {place}")
        for place in self.unreached:
            yield Seen("kill-cloud", None, None, f"never came to {place}")


def drill_of(faults: Faults, replay: Replay) -> Drill:
    """The drill that a file of faults makes of a replay.

    Raises:
        BadSetting: the replay has fewer rounds than a fault names.
    """
    chaos = Chaos(
        strikes(faults, replay.rounds),
        ranked=lambda: int(replay.tally.ranked.sum()),
        bundle=lambda: replay.bundle,
    )
    training = [name for name in faults.failpoints if name.startswith(_RETRAINING)]
    serving = tuple(name for name in faults.failpoints if name not in training)
    return Drill(faults, chaos, serving, deque(training))
