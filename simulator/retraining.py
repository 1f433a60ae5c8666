"""A cloud goes on training in mid-replay, in a process of its own that may be killed and go on."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared_models.contract.bundle import Bundle, BundleStore
from simulator.cache import Say
from simulator.drill import Drill
from simulator.fleet import Fleet, ProcessKilled
from simulator.keeper import FAILPOINTS
from simulator.places import BUNDLES, JOURNAL
from simulator.sites import CLOUD


@dataclass(frozen=True, slots=True)
class Continual:
    """How a run's cloud goes on training in mid-replay.

    Attributes:
        log: folder of the prepared log that the first bundle was trained on.
        recipe: arguments of ``concerto-cloud retrain`` that say how.
        say: hears how it goes.
    """

    log: Path
    recipe: Sequence[str]
    say: Say


@dataclass(frozen=True, slots=True)
class Retraining:
    """One training on what was uploaded.

    Attributes:
        name: of its log file.
        method: what is trained.
        title: with which the lines begin that tell of its progress.
        own: folder of the run, with bundles and journal.
        out: folder of this training.
        how: its recipe, and who hears of it.
    """

    name: str
    method: str
    title: str
    own: Path
    out: Path
    how: Continual

    @property
    def arguments(self) -> list[str]:
        """Of the cloud's command line."""
        places = {
            "--bundles": self.own / BUNDLES,
            "--journal": self.own / JOURNAL,
            "--log": self.how.log,
            "--out": self.out,
        }
        options = [part for option, path in places.items() for part in (option, str(path))]
        return ["retrain", "--method", self.method, *options, *self.how.recipe]


async def retrained(fleet: Fleet, job: Retraining, drill: Drill | None) -> Bundle:
    """What is released after ``job``; a training that a drill kills is started again.

    Raises:
        RunFailed: it ended badly by itself.
    """
    tries = 1
    while not await _is_over(fleet, job, tries, drill):
        tries += 1
    store = BundleStore(job.own / BUNDLES)
    return store.get(store.released()[job.method])


async def _is_over(fleet: Fleet, job: Retraining, tries: int, drill: Drill | None) -> bool:
    """Let a training run; false where it died at the place where it should.

    Raises:
        RunFailed: it ended badly by itself.
    """
    places = drill.retraining if drill else deque[str]()
    place = places.popleft() if places else ""
    name = job.name if tries == 1 else f"{job.name}.{tries}"
    work = fleet.complete(name, CLOUD, *job.arguments, environment={FAILPOINTS: place})
    try:
        async for line in work:
            if line.startswith(job.title):
                job.how.say(line)
    except ProcessKilled:
        if drill is None or not place:
            raise
        drill.failed_trainings.append(place)
        return False
    if drill is not None and place:
        drill.unreached.append(place)
    return True
