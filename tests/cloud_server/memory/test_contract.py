"""What every memory of users promises, whatever holds it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cloud_server.memory.in_process import InProcessMemory
from cloud_server.memory.sqlite import SqliteMemory
from cloud_server.memory.store import LIVE, NOBODY, UserMemory
from shared_models.contract.errors import BadAsk, UnknownName
from shared_models.contract.manifest import MemorySpec
from shared_models.contract.tensors import Float32Array, Int64Array

TASTE, GROUP = SPECS = MemorySpec(name="taste", width=2), MemorySpec(name="group", width=3)
MEMORIES: dict[str, Callable[[Path], UserMemory]] = {
    "in_process": lambda _: InProcessMemory(SPECS),
    "sqlite": lambda folder: SqliteMemory(folder / "memory.sqlite", SPECS),
}


@pytest.fixture(params=MEMORIES)
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UserMemory]:
    memory = MEMORIES[request.param](tmp_path)
    yield memory
    memory.close()


def ids(*users: int) -> Int64Array:
    return np.array(users, np.int64)


def vectors(*numbers: float) -> Float32Array:
    """One taste for each number, (number, -number)."""
    return np.array([(number, -number) for number in numbers], np.float32).reshape(-1, 2)


def seen(memory: UserMemory, user: int, round: int) -> tuple[int, float]:
    """Version and first number of the taste of ``user`` that others see in ``round``."""
    found = memory.neighbours("taste", ids(user), round)
    return int(found.versions[0]), float(found.values[0, 0])


def own(memory: UserMemory, user: int) -> tuple[int, float]:
    """Version and first number of the taste of ``user`` that they see themselves."""
    found = memory.get("taste", ids(user))
    return int(found.versions[0]), float(found.values[0, 0])


def test_a_user_gets_back_what_was_put_to_the_bit(memory: UserMemory) -> None:
    values = np.array([[1.1, -0.0], [1e-45, 3.4e38], [-7.5, 0.0]], np.float32)

    memory.put("taste", ids(5, 0, 2**40), values, LIVE)

    found = memory.get("taste", ids(0, 2**40, 5))
    assert found.values.tobytes() == values[[1, 2, 0]].tobytes()
    assert found.values.dtype == np.float32
    assert found.versions.dtype == np.int64


def test_versions_start_at_one_and_grow_by_one_for_each_user_and_name(memory: UserMemory) -> None:
    first = memory.put("taste", ids(3, 1), vectors(1, 1), 1)
    second = memory.put("taste", ids(1, 2), vectors(2, 2), 1)
    third = memory.put("taste", ids(2, 1, 3), vectors(3, 3, 3), 4)
    other = memory.put("group", ids(1), np.ones((1, 3), np.float32), 1)

    assert [each.tolist() for each in (first, second, third, other)] == [
        [1, 1],
        [2, 1],
        [2, 3, 2],
        [1],
    ]
    assert memory.get("taste", ids(1, 2, 3)).versions.tolist() == [3, 2, 2]
    assert memory.get("group", ids(1, 2)).versions.tolist() == [1, 0]


def test_what_equals_the_newest_to_the_bit_changes_nothing(memory: UserMemory) -> None:
    memory.put("taste", ids(1, 2), vectors(1, 5), 1)
    memory.put("taste", ids(1), vectors(2), 2)

    versions = memory.put("taste", ids(1, 2), vectors(2, 6), 7)

    assert versions.tolist() == [2, 2]
    assert seen(memory, 1, 7) == (2, 2.0)
    assert memory.put("taste", ids(1), vectors(3), 3).tolist() == [3]


def test_zeros_of_different_sign_differ(memory: UserMemory) -> None:
    memory.put("taste", ids(1), np.array([[0.0, 0.0]], np.float32), LIVE)

    versions = memory.put("taste", ids(1), np.array([[0.0, -0.0]], np.float32), LIVE)

    assert versions.tolist() == [2]


def test_who_has_nothing_gets_zeros_of_version_zero(memory: UserMemory) -> None:
    memory.put("taste", ids(1), vectors(4), LIVE)

    for found in (
        memory.get("taste", ids(2, 1)),
        memory.neighbours("taste", ids(2, 1), LIVE),
        memory.neighbours("taste", ids(2, 1), 9),
    ):
        assert found.versions.tolist() == [0, 1]
        assert found.values.tolist() == [[0, 0], [4, -4]]


@pytest.mark.parametrize("shape", [(0,), (1,), (4,), (0, 3), (2, 3), (2, 3, 2)])
def test_vectors_come_in_the_shape_of_the_ids(memory: UserMemory, shape: tuple[int, ...]) -> None:
    memory.put("taste", np.arange(4), vectors(0.5, 1, 2, 3), 1)
    users = np.random.default_rng(0).integers(0, 6, shape)

    for found in (memory.get("taste", users), memory.neighbours("taste", users, 2)):
        assert found.values.shape == (*shape, 2)
        assert found.versions.shape == shape
        for place, user in np.ndenumerate(users):
            first = [0.5, 1, 2, 3, 0, 0][user]
            assert found.values[place].tolist() == [first, -first]
            assert found.versions[place] == (user < 4)


def test_nobody_has_no_vector(memory: UserMemory) -> None:
    memory.put("taste", ids(0, 1), vectors(3, 4), 1)

    found = memory.neighbours("taste", np.array([[1, NOBODY], [NOBODY, NOBODY]]), 2)

    assert found.versions.tolist() == [[1, 0], [0, 0]]
    assert found.values.tolist() == [[[4, -4], [0, 0]], [[0, 0], [0, 0]]]


def test_many_users_are_read_at_once(memory: UserMemory) -> None:
    users = np.arange(40_000)[::-1]
    values = np.random.default_rng(0).standard_normal((len(users), 2)).astype(np.float32)

    memory.put("taste", users, values, LIVE)

    assert memory.get("taste", users).values.tobytes() == values.tobytes()


def test_a_write_is_seen_by_its_user_at_once_and_by_others_one_round_later(
    memory: UserMemory,
) -> None:
    memory.put("taste", ids(1), vectors(1), 3)
    assert own(memory, 1) == (1, 1.0)
    assert seen(memory, 1, 3) == (0, 0.0)
    assert seen(memory, 1, 4) == (1, 1.0)

    memory.put("taste", ids(1), vectors(2), 5)
    assert own(memory, 1) == (2, 2.0)
    assert seen(memory, 1, 5) == (1, 1.0)
    assert seen(memory, 1, 6) == (2, 2.0)
    assert seen(memory, 1, 60) == (2, 2.0)


def test_others_see_of_a_round_only_what_was_last_in_it(memory: UserMemory) -> None:
    for number in (1, 2, 3):
        memory.put("taste", ids(1), vectors(number), 1)
        assert seen(memory, 1, 1) == (0, 0.0)
    for number in (4, 5):
        memory.put("taste", ids(1), vectors(number), 2)
        assert seen(memory, 1, 2) == (3, 3.0)

    assert seen(memory, 1, 3) == (5, 5.0)


def test_who_reads_late_in_a_round_sees_what_who_reads_early_sees(memory: UserMemory) -> None:
    memory.put("taste", ids(1, 2), vectors(1, 2), 1)
    early = memory.neighbours("taste", ids(1, 2, 3), 2)

    memory.put("taste", ids(3, 2), vectors(8, 9), 2)

    late = memory.neighbours("taste", ids(1, 2, 3), 2)
    assert late.values.tobytes() == early.values.tobytes()
    assert late.versions.tolist() == early.versions.tolist() == [1, 1, 0]


def test_without_rounds_everybody_sees_the_newest_at_once(memory: UserMemory) -> None:
    for version in (1, 2, 3):
        memory.put("taste", ids(1), vectors(version), LIVE)

        assert seen(memory, 1, LIVE) == own(memory, 1) == (version, version)


def test_what_was_there_before_a_replay_is_seen_from_its_first_round_on(
    memory: UserMemory,
) -> None:
    memory.put("taste", ids(1), vectors(1), LIVE)
    memory.put("taste", ids(1), vectors(2), 1)

    assert seen(memory, 1, 1) == (1, 1.0)
    assert seen(memory, 1, 2) == (2, 2.0)


@pytest.mark.parametrize("late", [LIVE, 1, 3])
def test_a_write_of_the_past_is_refused_with_all_that_came_with_it(
    memory: UserMemory, late: int
) -> None:
    memory.put("taste", ids(2), vectors(1), 4)

    with pytest.raises(BadAsk, match=rf"'taste' of user 2 is of round 4: round {late} is over"):
        memory.put("taste", ids(1, 2, 3), vectors(5, 6, 7), late)

    assert memory.users("taste").tolist() == [2]
    assert own(memory, 2) == (1, 1.0)
    assert memory.put("taste", ids(1, 2, 3), vectors(5, 6, 7), 4).tolist() == [1, 2, 1]


def test_the_past_that_is_no_longer_kept_is_not_made_up(memory: UserMemory) -> None:
    for round in (1, 2, 3):
        memory.put("taste", ids(7), vectors(round), round)

    assert seen(memory, 7, 3) == (2, 2.0)
    with pytest.raises(BadAsk, match="'taste' of user 7 from before round 2 is no longer kept"):
        memory.neighbours("taste", ids(1, 7), 2)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_with_all_that_came_with_them(
    memory: UserMemory, number: float
) -> None:
    with pytest.raises(BadAsk, match="'taste' of user 4 is not finite"):
        memory.put("taste", ids(1, 4), vectors(1, number), LIVE)

    assert memory.users("taste").tolist() == []


@pytest.mark.parametrize(
    ("users", "values", "round", "message"),
    [
        (ids(1, 2, 1), vectors(1, 2, 3), 1, r"\[1\] come twice"),
        (ids(1, NOBODY), vectors(1, 2), 1, r"\[-1\] come twice or are below 0"),
        (ids(1), vectors(1), -1, "no round -1"),
        (ids(1), np.ones((1, 3), np.float32), 1, r"wants float32 \(1, 2\), got float32 \(1, 3\)"),
        (ids(1, 2), vectors(1), 1, r"wants float32 \(2, 2\), got float32 \(1, 2\)"),
        (ids(1), np.ones((1, 2)), 1, r"wants float32 \(1, 2\), got float64"),
        (np.ones((1, 2), np.int64), np.ones((1, 2), np.float32), 1, r"of users \(1, 2\)"),
    ],
)
def test_a_write_that_makes_no_sense_is_refused(
    memory: UserMemory, users: Int64Array, values: Any, round: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        memory.put("taste", users, values, round)

    assert memory.users("taste").tolist() == []


def test_an_empty_write_writes_nothing(memory: UserMemory) -> None:
    assert memory.put("taste", ids(), vectors(), 1).tolist() == []
    assert memory.users("taste").tolist() == []


def test_an_unknown_name_is_answered_with_the_nearest_one(memory: UserMemory) -> None:
    asks: list[Callable[[], object]] = [
        lambda: memory.put("tast", ids(1), vectors(1), 1),
        lambda: memory.get("tast", ids(1)),
        lambda: memory.neighbours("tast", ids(1), 1),
        lambda: memory.users("tast"),
    ]

    for ask in asks:
        with pytest.raises(UnknownName, match="unknown memory vector 'tast': did you mean 'taste'"):
            ask()


def test_users_are_those_who_have_the_vector(memory: UserMemory) -> None:
    memory.put("taste", ids(30, 2), vectors(1, 2), 1)
    memory.put("taste", ids(11, 2), vectors(1, 3), 2)
    memory.put("group", ids(5), np.ones((1, 3), np.float32), 1)

    assert memory.users("taste").tolist() == [2, 11, 30]
    assert memory.users("group").tolist() == [5]
    assert memory.users("taste").dtype == np.int64


def test_arrays_belong_to_the_caller(memory: UserMemory) -> None:
    given = vectors(1)
    memory.put("taste", ids(1), given, 1)
    given += 1
    found = memory.get("taste", ids(1))
    np.add(found.values, 1, out=found.values)

    assert own(memory, 1) == (1, 1.0)


def test_specs_have_a_name_of_their_own() -> None:
    specs = [TASTE, MemorySpec(name="taste", width=3)]

    with pytest.raises(ValueError, match="is there twice"):
        InProcessMemory(specs)
    with pytest.raises(ValueError, match="is there twice"):
        SqliteMemory(Path(":memory:"), specs)


USERS = range(4)


class Lives(RuleBasedStateMachine):
    """A memory beside a list of everything that was ever written into it."""

    def __init__(self, memory: UserMemory) -> None:
        super().__init__()
        self.memory = memory
        self.round = LIVE
        self.writes: dict[int, list[tuple[int, bytes]]] = {user: [] for user in USERS}

    @rule(
        tastes=st.dictionaries(st.sampled_from(USERS), st.sampled_from([0.0, -0.0, 1.0, 2.0])),
        step=st.integers(-2, 2),
    )
    def put(self, tastes: dict[int, float], step: int) -> None:
        self.round = max(LIVE, self.round + step)
        given = np.repeat(np.array(list(tastes.values()), np.float32)[:, None], 2, axis=1)
        past = [user for user in tastes if max(self.rounds(user), default=0) > self.round]
        if past:
            with pytest.raises(BadAsk, match="is over"):
                self.memory.put("taste", ids(*tastes), given, self.round)
            return
        versions = self.memory.put("taste", ids(*tastes), given, self.round)
        for user, data in zip(tastes, map(np.ndarray.tobytes, given), strict=True):
            if data not in {told for _, told in self.writes[user][-1:]}:
                self.writes[user].append((self.round, data))
        assert versions.tolist() == [len(self.writes[user]) for user in tastes]

    @rule(user=st.sampled_from(USERS), ahead=st.integers(-3, 2))
    def look(self, user: int, ahead: int) -> None:
        round = max(LIVE, self.round + ahead)
        if round != LIVE and round <= max([0, *self.rounds(user)[:-1]]):
            with pytest.raises(BadAsk, match="no longer kept"):
                self.memory.neighbours("taste", ids(user), round)
            return
        there = [data for when, data in self.writes[user] if round == LIVE or when < round]
        self.compare(self.memory.neighbours("taste", ids(user), round), 0, there)

    @invariant()
    def everybody_has_their_newest(self) -> None:
        found = self.memory.get("taste", np.array(USERS))
        for user in USERS:
            self.compare(found, user, [data for _, data in self.writes[user]])
        assert self.memory.users("taste").tolist() == [u for u in USERS if self.writes[u]]

    def teardown(self) -> None:
        self.memory.close()

    def rounds(self, user: int) -> list[int]:
        """In which ``user`` wrote, each once, ascending."""
        return sorted({round for round, _ in self.writes[user]})

    def compare(self, found: Any, row: int, there: list[bytes]) -> None:
        assert found.versions[row] == len(there)
        assert found.values[row].tobytes() == (there[-1] if there else bytes(8))


@pytest.mark.parametrize("name", MEMORIES)
def test_any_life_is_as_if_everything_ever_written_were_kept(name: str) -> None:
    run_state_machine_as_test(
        lambda: Lives(
            InProcessMemory(SPECS)
            if name == "in_process"
            else SqliteMemory(Path(":memory:"), SPECS)
        ),
        settings=settings(max_examples=80, stateful_step_count=30, deadline=None),
    )
