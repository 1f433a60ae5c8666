"""Whether the cloud still holds what it acknowledged: devices' histories against its own files.

    lost       acknowledged, and not there
    doubled    there more often than it was sent
    reordered  there, but in another place than it was acknowledged for

What was sent and never acknowledged may be there or not. The cloud's files are read as they lie on
disk after the run, by the tables that they have, and not through the cloud's own code.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table
from typing_extensions import override

from shared_models.contract.errors import PathMissing, RunFailed
from shared_models.contract.history import (
    SUFFIX,
    ContributionSent,
    ContributionsStored,
    Entry,
    EventsSent,
    EventsStored,
    RefreshSent,
    VectorKept,
    digest,
    read_history,
)
from simulator.kept import KEEP, read_kept
from simulator.places import CONTRIBUTIONS, HISTORY, JOURNAL, JOURNALS, MEMORY

Life = Sequence[Entry]
"""What one device process wrote down, from its beginning to its end or to a kill."""
What = tuple[int, float]
"""The item of an event, and when it was taken."""
Numbered = dict[int, dict[int, set[What]]]
"""By user, and by the number of the event."""
_EVENTS: Final = "SELECT user, sequence, item, at FROM events"
_VECTORS: Final = "SELECT user, version, data, settled_version, settled_data FROM vectors"
_CONTRIBUTORS: Final = "SELECT lineage, user, stored FROM contributors"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one kind of thing.

    Attributes:
        what: events, vectors or contributions.
        acknowledged: how many the cloud promised to hold.
        lost: of these, how many it does not hold.
        doubled: how many it holds that nobody sent, or not so often.
        reordered: how many stand elsewhere than they were acknowledged for.
    """

    what: str
    acknowledged: int
    lost: int = 0
    doubled: int = 0
    reordered: int = 0

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.doubled or self.reordered)

    @override
    def __str__(self) -> str:
        return (
            f"of {self.acknowledged} acknowledged {self.what} {self.lost} are lost, "
            f"{self.doubled} doubled, {self.reordered} reordered"
        )


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of one run."""

    run: str
    verdicts: tuple[Verdict, ...]

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return all(verdict.holds for verdict in self.verdicts)


def check_runs(folder: Path) -> list[Checked]:
    """Check every run whose results lie in ``folder``.

    Raises:
        PathMissing: there is no history in it: it was played without faults and ``--history``.
        BadLog: a history cannot be read.
    """
    runs = sorted(path.parent for path in (folder / JOURNALS).glob(f"*/{HISTORY}"))
    if not runs:
        raise PathMissing(folder, "run with a history: play it with --history or --faults")
    return [Checked(run.name, check_run(run)) for run in runs]


def check_run(own: Path) -> tuple[Verdict, ...]:
    """Check one run.

    Args:
        own: the folder with the run's histories and with the files of its cloud.
    """
    lives = [list(read_history(path)) for path in sorted((own / HISTORY).glob(f"*{SUFFIX}"))]
    return (
        check_events(lives, rows(own / JOURNAL, _EVENTS), read_kept(own)),
        check_vectors(lives, _vectors(own / MEMORY)),
        check_contributions(lives, rows(own / CONTRIBUTIONS, _CONTRIBUTORS)),
    )


def require_kept(own: Path) -> tuple[Verdict, ...]:
    """As `check_run`, of a run that is to go on only if every promise was kept.

    Raises:
        RunFailed: one was not.
    """
    verdicts = check_run(own)
    broken = [verdict for verdict in verdicts if not verdict.holds]
    if broken:
        raise RunFailed(f"the cloud broke its word: {'; '.join(map(str, broken))}")
    return verdicts


def check_events(
    lives: Iterable[Life], stored: Iterable[tuple[Any, ...]], keep: int = KEEP
) -> Verdict:
    """Hold acknowledged events against the journal's rows (user, sequence, item, at).

    What a user has before the first number that was ever sent is their past, which the cloud knew.
    Of each user the journal may forget all but the newest ``keep`` events.
    """
    held: dict[int, dict[int, What]] = defaultdict(dict)
    for user, sequence, item, at in stored:
        held[user][sequence] = (item, at)
    sent, promised = _sent_and_promised(lives)
    acknowledged = lost = doubled = reordered = 0
    for user, tries in sent.items():
        own, certain = held[user], promised[user]
        acknowledged += sum(map(len, certain.values()))
        forgotten = max((*own, *certain), default=0) - keep
        strange = Counter(
            what for n, what in own.items() if n >= min(tries) and what not in tries.get(n, ())
        )
        for what in _missing(certain, own, forgotten):
            if strange[what]:
                strange[what] -= 1
                reordered += 1
            else:
                lost += 1
        doubled += strange.total()
    return Verdict("events", acknowledged, lost, doubled, reordered)


def check_vectors(
    lives: Iterable[Life], stored: Iterable[tuple[str, int, int, int, int, int]]
) -> Verdict:
    """Hold acknowledged vectors against what the memories keep.

    Args:
        lives: the histories.
        stored: bundle, user, version, digest of the newest vector, and version and digest of the
            one before the present round, 0 where there is none.
    """
    held = {(bundle, user): rest for bundle, user, *rest in stored}
    sent: Counter[tuple[str, int]] = Counter()
    told: dict[tuple[str, int], dict[int, int]] = defaultdict(dict)
    reordered = lost = acknowledged = 0
    for life in lives:
        newest: dict[tuple[str, int], int] = {}
        for entry in life:
            if isinstance(entry, RefreshSent):
                sent[entry.bundle, entry.user] += 1
            elif isinstance(entry, VectorKept):
                key = entry.bundle, entry.user
                acknowledged += 1
                reordered += entry.version < newest.get(key, 0)
                newest[key] = entry.version
                # The same version with another content: the first one was lost and written over.
                lost += told[key].setdefault(entry.version, entry.digest) != entry.digest
    doubled = 0
    for key, versions in told.items():
        version, newest_digest, earlier, earlier_digest = held.get(key, (0, 0, 0, 0))
        lost += sum(each > version for each in versions)
        lost += versions.get(version, newest_digest) != newest_digest
        lost += bool(earlier) and versions.get(earlier, earlier_digest) != earlier_digest
        # Version 1 may have been made of the past, before the first refresh.
        doubled += max(0, version - sent[key] - 1)
    return Verdict("vectors", acknowledged, lost, doubled, reordered)


def check_contributions(lives: Iterable[Life], stored: Iterable[tuple[str, int, int]]) -> Verdict:
    """Hold accepted contributions against the counts of the cloud (lineage, user, stored).

    A lineage is a bundle's own, by its id, or that of all bundles which go on with one another.
    """
    held = {(lineage, user): count for lineage, user, count in stored}
    own = {lineage for lineage, _ in held}
    shared = next((lineage for lineage in own if "/" in lineage), "")
    sent: Counter[tuple[str, int]] = Counter()
    told: Counter[tuple[str, int]] = Counter()
    reordered = 0
    for life in lives:
        newest: Counter[tuple[str, int]] = Counter()
        for entry in life:
            if not isinstance(entry, ContributionSent | ContributionsStored):
                continue
            key = entry.bundle if entry.bundle in own else shared, entry.user
            if isinstance(entry, ContributionSent):
                sent[key] = max(sent[key], entry.sequence + 1)
            else:
                reordered += entry.stored < newest[key]
                newest[key] = entry.stored
                told[key] = max(told[key], entry.stored)
    lost = sum(max(0, count - held.get(key, 0)) for key, count in told.items())
    doubled = sum(max(0, count - sent[key]) for key, count in held.items())
    return Verdict("contributions", told.total(), lost, doubled, reordered)


def table(checked: Sequence[Checked]) -> Table:
    """What was found, for people."""
    shown = Table(box=None)
    shown.add_column("run")
    shown.add_column("what")
    for column in ("acknowledged", "lost", "doubled", "reordered"):
        shown.add_column(column, justify="right")
    for run in checked:
        for each in run.verdicts:
            figures = (each.acknowledged, each.lost, each.doubled, each.reordered)
            shown.add_row(run.run, each.what, *(f"{figure:,}" for figure in figures))
    return shown


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """What a file of the cloud's holds; nothing where there is none."""
    if not path.is_file():
        return []
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def _missing(
    certain: Mapping[int, set[What]], own: Mapping[int, What], forgotten: int
) -> Iterator[What]:
    """What was promised under a number that holds something else, or nothing.

    Where several were promised under one, all but one are lost, even of what may be forgotten.
    """
    for number, promises in certain.items():
        excused = number <= forgotten and number not in own
        yield from sorted(promises - {own.get(number)})[int(excused) :]


def _sent_and_promised(lives: Iterable[Life]) -> tuple[Numbered, Numbered]:
    """What was ever sent, and what of that was acknowledged."""
    sent: Numbered = defaultdict(lambda: defaultdict(set))
    promised: Numbered = defaultdict(lambda: defaultdict(set))
    for life in lives:
        waiting: dict[int, dict[int, What]] = defaultdict(dict)
        for entry in life:
            if isinstance(entry, EventsSent):
                for number, what in enumerate(zip(entry.items, entry.at, strict=True), entry.first):
                    sent[entry.user][number].add(what)
                    waiting[entry.user][number] = what
            elif isinstance(entry, EventsStored):
                own = waiting[entry.user]
                for number in [each for each in own if each < entry.stored]:
                    promised[entry.user][number].add(own.pop(number))
    return sent, promised


def _vectors(folder: Path) -> Iterator[tuple[str, int, int, int, int, int]]:
    for path in sorted(folder.glob("*.sqlite")):
        for user, version, data, earlier, earlier_data in rows(path, _VECTORS):
            yield path.stem, user, version, digest(data), earlier, digest(earlier_data)
