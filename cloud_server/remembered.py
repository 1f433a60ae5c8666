"""What the cloud knows of the users of one bundle: memories, neighbours, histories."""

# Shapes: U users, B of them, W neighbours, D width of a memory, N items of a history.

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cloud_server.bundles import Bundles, models_folder
from cloud_server.checkpoints import Trained, load_checkpoint
from cloud_server.events import EventJournal
from cloud_server.failpoints import failpoint
from cloud_server.groups import write_assignment
from cloud_server.memory.in_process import InProcessMemory
from cloud_server.memory.sqlite import SqliteMemory
from cloud_server.memory.store import LIVE, NOBODY, UserMemory
from cloud_server.settings import ServeSettings
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import BadSetting, UnknownName
from shared_models.contract.features import encode_windows
from shared_models.contract.manifest import Manifest, MemorySpec
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.logs.neighbours import listed
from shared_models.logs.prepared import PreparedLog, taken
from shared_models.method import Remembers

_NEIGHBOURS: Final = "neighbours.npy"
_HISTORY: Final = "history.parquet"
_ROWS: Final = 1024


class Remembered:
    """Reads and writes what belongs to the users of one bundle. One thread at a time.

    Args:
        manifest: of the bundle.
        memory: of all users; None where the manifest names nothing to keep.
        journal: of what devices uploaded; None where refreshes bring nothing for it.
        neighbours_UW: int64, padded with -1; who is not in it has none.
    """

    def __init__(
        self,
        manifest: Manifest,
        memory: UserMemory | None,
        journal: EventJournal | None,
        neighbours_UW: Int64Array,
    ) -> None:
        self._spec, self._memory, self._journal = manifest.memory, memory, journal
        self._neighbours_UW = neighbours_UW
        self.neighbours = manifest.neighbours

    def histories(self, users_B: Int64Array, length: int) -> Int64Array:
        """The newest items of each user (B, N), newest last, right-padded."""
        assert self._journal is not None  # noqa: S101 - the uplink is what is pending
        return self._journal.newest(users_B, length)

    def others(
        self, users_B: Int64Array, rounds_B: Int64Array
    ) -> tuple[Float32Array, NDArray[np.bool_]]:
        """What neighbours had stored before a round: (B, W, D), and which of it there is."""
        assert self._spec is not None  # noqa: S101 - neighbours have something
        assert self._memory is not None  # noqa: S101 - and it is kept
        values = np.zeros((len(users_B), self.neighbours, self._spec.width), np.float32)
        known = np.zeros(values.shape[:2], bool)
        users_BW = self._of(users_B)
        for round_ in np.unique(rounds_B).tolist():
            here = rounds_B == round_
            found = self._memory.neighbours(self._spec.name, users_BW[here], round_)
            values[here], known[here] = found.values, found.versions > 0
        return values, known

    def keep(self, users_B: Int64Array, memory_BD: Float32Array, round_: int) -> Int64Array:
        """Remember a vector of each user; how often each was written then (B,)."""
        assert self._spec is not None  # noqa: S101 - the method has something to keep
        assert self._memory is not None  # noqa: S101 - so there is where
        vectors_BD = np.ascontiguousarray(memory_BD)
        return self._memory.put(self._spec.name, users_B, vectors_BD, round_)

    def _of(self, users_B: Int64Array) -> Int64Array:
        known_B = users_B < len(self._neighbours_UW)
        users_BW = self._neighbours_UW[np.where(known_B, users_B, 0)]
        return np.where(known_B[:, None], users_BW, NOBODY)


def write_seed(folder: Path, trained: Trained, log: PreparedLog) -> None:
    """Leave beside a model what its cloud knows before the first device comes.

    The histories of users until the end of the validation part, who is like whom, and in which
    group everybody is.
    """
    config = trained.method.config
    folder.mkdir(parents=True, exist_ok=True)
    write_assignment(folder, trained, log)
    if config.neighbours is not None:
        found_UW = listed(log, config.neighbours)
        np.save(folder / _NEIGHBOURS, found_UW, allow_pickle=False)
    if config.memory is not None:
        past = taken(pl.concat([log.train, log.validation])).sort("user", "seq")
        # Devices number what their users took; what was only shown has no number.
        numbered = past.with_columns(seq=pl.int_range(pl.len()).over("user"))
        newest = numbered.group_by("user", maintain_order=True).tail(_kept(trained))
        newest.select("user", "seq", "item", "at").write_parquet(folder / _HISTORY)


class Memories:
    """What is remembered of the users of every bundle that a cloud serves.

    Args:
        settings: where journal and memories are.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._open: list[UserMemory | EventJournal] = []

    def of(self, bundle: Bundle, trained: Trained, folder: Path) -> Remembered:
        """Open, or where there is nothing yet begin with what was known at training time.

        Args:
            bundle: whose users.
            trained: its model.
            folder: of that model.
        """
        spec, memory, journal = bundle.manifest.memory, None, None
        if bundle.manifest.uplink and bundle.manifest.uplink.pending:
            # A second connection: its thread reads while the other one's commits.
            journal = EventJournal(self._settings.journal_path, self._settings.history)
            self._open.append(journal)
            seed_journal(folder, journal)
        if spec is not None:
            memory = open_memory(self._settings.memory, bundle.id, spec)
            self._open.append(memory)
            if not len(memory.users(spec.name)):
                remember_all(trained, folder, memory)
        return Remembered(bundle.manifest, memory, journal, read_neighbours(folder))

    def close(self) -> None:
        """Let go of all files."""
        for each in self._open:
            each.close()


def open_memory(folder: Path | None, bundle_id: str, spec: MemorySpec) -> UserMemory:
    """The memories that belong to one bundle: another's vectors mean something else.

    Args:
        folder: with a file for each bundle; None to remember as long as the process lives.
        bundle_id: whose.
        spec: what is kept.
    """
    if folder is None:
        return InProcessMemory([spec])
    folder.mkdir(parents=True, exist_ok=True)
    return SqliteMemory(folder / f"{bundle_id}.sqlite", [spec])


def read_neighbours(folder: Path) -> Int64Array:
    """Who is like whom (U, W); nobody like anybody where nothing was written."""
    path = folder / _NEIGHBOURS
    return np.load(path, allow_pickle=False) if path.exists() else np.zeros((1, 0), np.int64)


def seed_journal(folder: Path, journal: EventJournal) -> None:
    """Put into an empty journal what the cloud knew of users at training time."""
    if (folder / _HISTORY).exists() and next(iter(journal), None) is None:
        journal.seed(pl.read_parquet(folder / _HISTORY))


def remember_all(trained: Trained, folder: Path, memory: UserMemory) -> int:
    """Make the memories of all users whose histories lie beside the model; how many that are."""
    users = 0
    for users_B, histories_BL in _histories(folder / _HISTORY, _kept(trained)):
        write_memories(trained, users_B, histories_BL, memory)
        failpoint("memory.seeding")
        users += len(users_B)
    return users


def refresh_memories(settings: ServeSettings, method: str) -> int:
    """Make the memories of all users anew, from what the journal holds or training left.

    Args:
        settings: where bundles, journal and memories are.
        method: whose released bundle.

    Returns:
        How many users that were.

    Raises:
        BadSetting: no folder for memories is named, or the method keeps none.
        UnknownName: nothing is released for the method.
    """
    bundles = Bundles(settings.bundles)
    if method not in bundles.released:
        raise UnknownName("method", method, bundles.released)
    bundle = bundles.read(bundles.released[method])
    spec, uplink = bundle.manifest.memory, bundle.manifest.uplink
    if spec is None:
        raise BadSetting("method", f"{method} remembers nothing of users")
    if settings.memory is None:
        raise BadSetting("memory", "name the folder of memories that the cloud serves from")
    folder = models_folder(settings.bundles, bundle.id)
    trained = load_checkpoint(folder)
    with closing(open_memory(settings.memory, bundle.id, spec)) as memory:
        if uplink is None or not uplink.pending:
            return remember_all(trained, folder, memory)
        with closing(EventJournal(settings.journal_path, settings.history)) as journal:
            seed_journal(folder, journal)
            users = np.unique(np.fromiter((entry.user for entry in journal), np.int64))
            for users_B in np.array_split(users, -(-len(users) // _ROWS) or 1):
                histories_BL = journal.newest(users_B, uplink.items)
                write_memories(trained, users_B, histories_BL, memory)
        return len(users)


def write_memories(
    trained: Trained, users_B: Int64Array, histories_BL: Int64Array, memory: UserMemory
) -> None:
    """Make and keep the memories of some users.

    Args:
        trained: a method that remembers.
        users_B: who.
        histories_BL: int64, their newest items, newest last, right-padded.
        memory: where.
    """
    method, spec = trained.method, trained.method.config.memory
    assert isinstance(method, Remembers)  # noqa: S101 - its config names a memory
    assert spec is not None  # noqa: S101 - the same
    memory.put(spec.name, users_B, method.remember(trained.model, histories_BL), LIVE)


def _kept(trained: Trained) -> int:
    uplink = trained.method.config.uplink
    return uplink.items if uplink else trained.method.config.history


def _histories(path: Path, length: int) -> Iterator[tuple[Int64Array, Int64Array]]:
    """Users and their newest items, right-padded, some at a time."""
    by_user = pl.read_parquet(path).group_by("user", maintain_order=True).agg("item")
    for part in by_user.iter_slices(_ROWS):
        yield (
            part["user"].to_numpy().astype(np.int64),
            encode_windows(part["item"].to_list(), length),
        )
