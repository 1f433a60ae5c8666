"""What the cloud knows of users: who sees what when, and what it begins with."""

# Shapes: B users, W neighbours, N items of a history, D width.

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from torch import nn

from cloud_server.checkpoints import Trained
from cloud_server.events import EventJournal
from cloud_server.groups import read_assignment
from cloud_server.memory.in_process import InProcessMemory
from cloud_server.memory.store import LIVE
from cloud_server.personalize import Asked, Personalizer
from cloud_server.remembered import (
    Memories,
    Remembered,
    remember_all,
    seed_journal,
    write_seed,
)
from cloud_server.settings import ServeSettings
from shared_models.catalog import load_method, resolve
from shared_models.contract.bundle import Bundle
from shared_models.contract.events import Event, EventBatch
from shared_models.contract.manifest import MemorySpec
from shared_models.contract.tensors import Float32Array, Int64Array
from shared_models.logs.activity import grouped
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import PreparedLog
from shared_models.logs.worlds.groups import World, read_synthetic
from shared_models.method import Personalization, Uplinks
from tests.cloud_server.conftest import make_bundle

WIDTH, LENGTH = 2, 4
VECTOR = MemorySpec(name="vector", width=WIDTH)
NEIGHBOURS_UW = np.array([[1, 2], [0, -1], [-1, -1]])
TWO = {"count": 2, "slots": []}
MEMORY = {"memory": VECTOR.model_dump(), "uplink": {"items": LENGTH, "pending": True}}
ENCODER = {
    "file": "scorer.onnx",
    "inputs": [],
    "outputs": [{"name": VECTOR.name, "shape": ["batch", WIDTH]}],
}
SHARING: dict[str, Any] = {
    "memory": VECTOR.model_dump(),
    "neighbours": 2,
    "cross_user": True,
    "slots": [],
    "uplink": {"items": LENGTH, "outputs": [VECTOR.name]},
    "graphs": {"scorer": {**ENCODER, "outputs": []}, "encoder": ENCODER},
}


@dataclass
class Sharing:
    """Keeps what devices send, and notes what it was told of others."""

    asked: list[Uplinks] = field(default_factory=list)
    name = "sharing"

    def personalize(self, _: nn.Module, uplinks: Uplinks) -> Personalization:
        self.asked.append(uplinks)
        return Personalization({}, uplinks.outputs[VECTOR.name])


@dataclass(frozen=True)
class Summing:
    """Its memory of a user: the sum of the newest items, and how many there are."""

    config: Any

    def remember(self, _: nn.Module, histories_BL: Int64Array) -> Float32Array:
        return np.stack([histories_BL.sum(1), (histories_BL > 0).sum(1)], 1).astype(np.float32)


@dataclass(frozen=True)
class Keeping:
    """What `Summing` is configured with."""

    memory: MemorySpec = VECTOR
    neighbours: None = None
    user_groups: None = None
    history: int = LENGTH
    uplink: None = None


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[EventJournal]:
    opened = EventJournal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def memory() -> InProcessMemory:
    return InProcessMemory([VECTOR])


@pytest.fixture
def remembered(memory: InProcessMemory, journal: EventJournal) -> Remembered:
    return Remembered(make_bundle(**SHARING).manifest, memory, journal, NEIGHBOURS_UW)


@pytest.fixture
def trained() -> Trained:
    return Trained(Summing(Keeping()), nn.Identity(), "", 0)


def vector(value: float) -> Float32Array:
    return np.full(WIDTH, value, np.float32)


def keep(remembered: Remembered, round_: int, **values: float) -> None:
    """Remember a vector of ``value`` everywhere of each user ``u<number>``."""
    users = [int(name[1:]) for name in values]
    remembered.keep(np.array(users), np.stack([vector(v) for v in values.values()]), round_)


def seen(remembered: Remembered, user: int, round_: int) -> list[float | None]:
    """What ``user`` sees of each neighbour."""
    values, known = remembered.others(np.array([user]), np.array([round_]))
    pairs = zip(values[0, :, 0].tolist(), known[0].tolist(), strict=True)
    return [value if there else None for value, there in pairs]


def test_others_see_a_vector_from_the_next_round_on(remembered: Remembered) -> None:
    keep(remembered, 1, u1=5.0)

    assert seen(remembered, 0, 1) == [None, None]
    assert seen(remembered, 0, 2) == [5.0, None]


def test_within_a_round_others_see_what_was_there_before_it(remembered: Remembered) -> None:
    keep(remembered, 1, u1=5.0)
    for value in (6.0, 7.0):
        keep(remembered, 2, u1=value)

    assert seen(remembered, 0, 2) == [5.0, None]
    assert seen(remembered, 0, 3) == [7.0, None]


def test_its_writer_sees_a_vector_at_once(remembered: Remembered, memory: InProcessMemory) -> None:
    keep(remembered, 1, u1=5.0)
    keep(remembered, 2, u1=6.0)

    own = memory.get(VECTOR.name, np.array([1]))

    assert (own.values[0, 0], own.versions[0]) == (6.0, 2)


def test_asks_of_several_rounds_each_see_their_own(remembered: Remembered) -> None:
    keep(remembered, 1, u0=3.0, u1=5.0)
    keep(remembered, 2, u0=4.0)

    values, known = remembered.others(np.array([0, 1, 1]), np.array([2, 2, 3]))

    assert values[:, 0, 0].tolist() == [5.0, 3.0, 4.0]
    assert known.tolist() == [[True, False]] * 3


def test_outside_replays_others_see_a_vector_at_once(remembered: Remembered) -> None:
    keep(remembered, LIVE, u1=5.0)

    assert seen(remembered, 0, LIVE) == [5.0, None]


@pytest.mark.parametrize("user", [2, 3, 4711])
def test_who_has_no_neighbours_or_came_after_training_sees_nobody(
    remembered: Remembered, user: int
) -> None:
    keep(remembered, 1, u0=3.0, u1=5.0, u2=6.0)

    assert seen(remembered, user, 2) == [None, None]


def test_versions_grow_where_a_vector_changed_and_nowhere_else(
    remembered: Remembered, memory: InProcessMemory
) -> None:
    keep(remembered, 1, u0=3.0, u1=5.0, u2=6.0)
    before = memory.get(VECTOR.name, np.arange(3))

    keep(remembered, 2, u0=3.0, u1=5.5)

    after = memory.get(VECTOR.name, np.arange(3))
    assert (after.versions - before.versions).tolist() == [0, 1, 0]
    assert np.array_equal(after.values[[0, 2]], before.values[[0, 2]])
    assert after.values[1].tolist() == [5.5, 5.5]


def asked(user: int, value: float, round_: int = 1) -> Asked:
    return Asked(user, round_, outputs={VECTOR.name: vector(value)})


@pytest.fixture
async def personalizer(remembered: Remembered) -> AsyncIterator[Personalizer]:
    bundle = make_bundle(**SHARING)
    made = Personalizer(
        Sharing(), nn.Identity(), bundle.id, bundle.manifest, settings_in(Path()), remembered
    )
    yield made
    await made.close()


def settings_in(folder: Path, **fields: object) -> ServeSettings:
    return ServeSettings(bundles=folder, journal=folder / "journal.sqlite", **fields)


async def test_of_two_asks_of_a_user_in_one_batch_the_later_is_kept(
    personalizer: Personalizer, memory: InProcessMemory
) -> None:
    personalizer._overlays([asked(1, 5.0), asked(0, 3.0), asked(1, 6.0)])

    kept = memory.get(VECTOR.name, np.array([0, 1]))
    assert kept.values[:, 0].tolist() == [3.0, 6.0]
    assert kept.versions.tolist() == [1, 1]


async def test_asks_that_share_a_batch_do_not_see_each_other(
    personalizer: Personalizer, memory: InProcessMemory
) -> None:
    personalizer._overlays([asked(0, 3.0, LIVE), asked(1, 5.0, LIVE)])
    personalizer._overlays([asked(0, 4.0, LIVE), asked(1, 6.0, LIVE)])

    first, second = personalizer._method.asked
    assert not first.known_BW.any()
    assert second.others_BWD[:2, 0, 0].tolist() == [5.0, 3.0]
    assert memory.get(VECTOR.name, np.array([0, 1])).values[:, 0].tolist() == [4.0, 6.0]


async def test_padding_rows_of_a_batch_know_nobody_and_are_nobody_s_memory(
    personalizer: Personalizer, memory: InProcessMemory
) -> None:
    personalizer._overlays([asked(user, 1.0) for user in range(3)])

    (uplinks,) = personalizer._method.asked
    assert uplinks.others_BWD.shape == (8, 2, WIDTH)
    assert not uplinks.known_BW[3:].any()
    assert memory.users(VECTOR.name).tolist() == [0, 1, 2]


def test_a_history_is_the_newest_of_the_journal(
    remembered: Remembered, journal: EventJournal
) -> None:
    events = [Event(item, float(item)) for item in (5, 6, 7)]
    journal.append([(1, EventBatch(0, events))])

    assert remembered.histories(np.array([1, 0]), 2).tolist() == [[6, 7], [0, 0]]
    assert remembered.histories(np.array([1]), 4).tolist() == [[5, 6, 7, 0]]


def seed(folder: Path, lives: dict[int, Sequence[int]]) -> Path:
    """Leave histories beside a model, as `write_seed` does."""
    rows = [
        {"user": user, "seq": seq, "item": item, "at": float(seq)}
        for user, items in lives.items()
        for seq, item in enumerate(items)
    ]
    folder.mkdir(exist_ok=True)
    pl.DataFrame(rows).write_parquet(folder / "history.parquet")
    return folder


def test_an_empty_journal_is_seeded_and_one_that_holds_events_is_not(
    tmp_path: Path, journal: EventJournal
) -> None:
    folder = seed(tmp_path / "model", {1: [5, 6], 3: [7]})

    for _ in range(2):
        seed_journal(folder, journal)
    journal.append([(1, EventBatch(2, [Event(9, 9.0)]))])
    seed_journal(folder, journal)

    assert [(e.user, e.sequence, e.event.item) for e in journal] == [
        (1, 0, 5),
        (1, 1, 6),
        (1, 2, 9),
        (3, 0, 7),
    ]


def test_events_that_came_before_the_seed_keep_it_out(
    tmp_path: Path, journal: EventJournal
) -> None:
    journal.append([(1, EventBatch(0, [Event(9, 9.0)]))])

    seed_journal(seed(tmp_path / "model", {1: [5, 6], 3: [7]}), journal)

    assert [(e.user, e.event.item) for e in journal] == [(1, 9)]


def test_all_memories_are_made_of_the_newest_items_that_training_left(
    tmp_path: Path, memory: InProcessMemory, trained: Trained
) -> None:
    folder = seed(tmp_path / "model", {1: [5, 6], 3: [1, 2, 3, 4, 5, 6]})

    made = remember_all(trained, folder, memory)

    kept = memory.get(VECTOR.name, np.array([1, 2, 3]))
    assert made == 2
    assert kept.values.tolist() == [[11, 2], [0, 0], [18, 4]]
    assert kept.versions.tolist() == [1, 0, 1]


@pytest.fixture
def bundle() -> Bundle:
    return make_bundle(**{**SHARING, "neighbours": 2})


def reopen(
    bundle: Bundle, trained: Trained, folder: Path, settings: ServeSettings
) -> tuple[Memories, Remembered]:
    memories = Memories(settings)
    return memories, memories.of(bundle, trained, folder)


def write_neighbours(folder: Path) -> None:
    np.save(folder / "neighbours.npy", NEIGHBOURS_UW, allow_pickle=False)


@pytest.mark.parametrize(("keeps", "after"), [(True, 99.0), (False, 11.0)])
def test_after_a_restart_memories_are_those_of_the_folder_or_begin_again(
    tmp_path: Path, bundle: Bundle, trained: Trained, after: float, *, keeps: bool
) -> None:
    folder = seed(tmp_path / "model", {1: [5, 6]})
    write_neighbours(folder)
    settings = settings_in(tmp_path, memory=tmp_path / "memory" if keeps else None)
    memories, remembered = reopen(bundle, trained, folder, settings)
    begun = seen(remembered, 0, LIVE)
    keep(remembered, LIVE, u1=99.0)

    # The process dies: nothing is closed.
    again, found = reopen(bundle, trained, folder, settings)

    assert begun == [11.0, None]
    assert seen(found, 0, LIVE) == [after, None]
    for each in (memories, again):
        each.close()


def test_a_bundle_that_reads_pending_events_seeds_the_journal_and_no_other_does(
    tmp_path: Path, trained: Trained
) -> None:
    folder = seed(tmp_path / "model", {1: [5, 6]})
    counts = []

    for fields in (SHARING, MEMORY):
        settings = settings_in(tmp_path)
        memories, _ = reopen(make_bundle(**fields), trained, folder, settings)
        memories.close()
        with closing(EventJournal(settings.journal_path)) as journal:
            counts.append(journal.stored(1))

    assert counts == [0, 2]


def test_two_bundles_do_not_read_each_other_s_memories(tmp_path: Path, trained: Trained) -> None:
    folder = seed(tmp_path / "model", {1: [5, 6]})
    write_neighbours(folder)
    settings = settings_in(tmp_path, memory=tmp_path / "memory")
    one, other = (make_bundle(method=name, **SHARING) for name in ("one", "other"))
    memories, remembered = reopen(one, trained, folder, settings)
    keep(remembered, LIVE, u1=99.0)

    found = memories.of(other, trained, folder)

    assert seen(found, 0, LIVE) == [11.0, None]
    memories.close()


@pytest.fixture
def log(tmp_path: Path) -> PreparedLog:
    world = World(users=12, events=30, genres=3, cell=8)
    return prepare(read_synthetic(world), "user-tail", tmp_path / "log")


def trained_on(log: PreparedLog, method: str, **settings: object) -> Trained:
    config = resolve(method, log.items, "pool", {method: settings})
    made = load_method(method, config)
    return Trained(made, made.build(0).eval(), log.hash, 0)


def test_a_seed_is_the_end_of_training_and_validation_and_nothing_of_the_test_part(
    tmp_path: Path, log: PreparedLog
) -> None:
    write_seed(tmp_path / "model", trained_on(log, "ecrec", long=6, max_lag=2), log)

    found = pl.read_parquet(tmp_path / "model" / "history.parquet")

    past = pl.concat([log.train, log.validation]).sort("user", "seq")
    expected = past.group_by("user", maintain_order=True).tail(6)
    assert found.equals(expected.select("user", "seq", "item", "at").cast(dict(found.schema)))
    assert not (tmp_path / "model" / "neighbours.npy").exists()


def test_a_seed_holds_neighbours_where_the_method_reads_them(
    tmp_path: Path, log: PreparedLog
) -> None:
    write_seed(tmp_path / "model", trained_on(log, "cigar", others={"count": 3}), log)

    found_UW = np.load(tmp_path / "model" / "neighbours.npy", allow_pickle=False)

    assert found_UW.shape == (log.users, 3)
    assert ((found_UW >= -1) & (found_UW < log.users)).all()
    assert (found_UW != np.arange(log.users)[:, None]).all()


def test_a_seed_holds_the_groups_of_users_and_strangers_are_of_the_first(
    tmp_path: Path, log: PreparedLog
) -> None:
    trained, folder = trained_on(log, "pinrec", groups=2), tmp_path / "model"
    write_seed(folder, trained, log)
    groups_U = grouped(log, trained.method.config.user_groups)

    assignment = read_assignment(make_bundle(groups=TWO, uplink=None).manifest, folder)

    known = [assignment.of(user) for user in (5, 0, 7)]
    assert known == groups_U[[5, 0, 7]].tolist()
    assert [assignment.of(user) for user in (log.users, 10**6)] == [1, 1]


def test_without_groups_nobody_has_one(tmp_path: Path) -> None:
    assert read_assignment(make_bundle(uplink=None).manifest, tmp_path).of(3) == 0
