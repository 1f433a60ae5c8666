"""Rows to train on: what they may know of a user and of the neighbours, and nothing of later."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cloud_server.behaviour import Behaviour
from cloud_server.dataset import Dataset, EventKeys, Others
from shared_models.catalog import resolve
from shared_models.config import MethodConfig, NeighbourSpec
from shared_models.logs.activity import by_activity, events_of_users
from shared_models.logs.fields import known_fields
from shared_models.logs.neighbours import neighbours
from shared_models.logs.prepare import prepare
from shared_models.logs.prepared import Part, PreparedLog
from shared_models.logs.source import Source

Life = list[tuple[int, bool]]
"""(Seconds since the last event, whether it was taken) of a user's events."""
LIVES = st.lists(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=6), max_size=4)
PARTS: tuple[Part, ...] = ("train", "validation", "test")


def events_of(lives: Sequence[Life], *, labelled: bool) -> pl.DataFrame:
    """Events in order of (user, seq); every item is another one."""
    rows = [
        {"user": user, "seq": seq, "at": float(sum(step for step, _ in life[: seq + 1]))}
        | {"label": float(taken)}
        for user, life in enumerate(lives)
        for seq, (_, taken) in enumerate(life)
    ]
    schema = {"user": pl.Int32, "seq": pl.Int32, "at": pl.Float64, "label": pl.Float32}
    events = pl.DataFrame(rows, schema=schema).with_row_index("item", offset=1)
    return events if labelled else events.drop("label")


def newest_of(events: pl.DataFrame, user: int, length: int, before: float = np.inf) -> list[int]:
    """What `Behaviour` should say, event by event."""
    rows = events.filter(pl.col("user") == user, pl.col("at") < before)
    if "label" in rows:
        rows = rows.filter(pl.col("label") > 0)
    items: list[int] = rows["item"].to_list()[-length:]
    return [0] * (length - len(items)) + items


@given(LIVES, st.integers(1, 4), st.booleans())
def test_the_whole_of_a_user_is_the_newest_that_was_ever_taken(
    lives: list[Life], length: int, labelled: bool
) -> None:
    events, users = events_of(lives, labelled=labelled), np.arange(len(lives))

    found = Behaviour.of(events, len(lives)).whole(users, length)

    assert found.tolist() == [newest_of(events, user, length) for user in users.tolist()]


@given(LIVES, st.integers(1, 4), st.booleans())
def test_before_a_time_is_what_was_taken_earlier_and_nothing_of_that_time_or_later(
    lives: list[Life], length: int, labelled: bool
) -> None:
    events = events_of(lives, labelled=labelled)
    pairs = [(user, at / 2) for user in range(len(lives)) for at in range(-1, 26)]
    users, times = np.array([u for u, _ in pairs], int), np.array([at for _, at in pairs])

    found = Behaviour.of(events, len(lives)).before(users, times, length)

    assert found.tolist() == [newest_of(events, user, length, at) for user, at in pairs]


@given(LIVES, st.integers(1, 4))
def test_a_history_ends_before_its_event(lives: list[Life], length: int) -> None:
    events = events_of(lives, labelled=True)
    keys = EventKeys.of(events)

    found = Behaviour.of(events, len(lives)).histories(keys.user_B, keys.seq_B, length)

    for row, (user, seq) in enumerate(zip(keys.user_B, keys.seq_B, strict=True)):
        assert found[row].tolist() == newest_of(events.filter(pl.col("seq") < seq), user, length)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PreparedLog:
    """Users whose lives overlap in time, and who share items."""
    rng = np.random.default_rng(0)
    rows = pl.DataFrame(
        {
            "user": np.repeat(np.arange(8), 25),
            "item": rng.integers(0, 12, 200),
            "at": np.concatenate([np.sort(rng.integers(0, 60, 25)) for _ in range(8)]).astype(
                float
            ),
        }
    )
    users = pl.DataFrame({"raw": [str(user) for user in range(8)], "kind": ["a", "b"] * 4})
    return prepare(
        Source("crowd", rows, users=users), "user-tail", tmp_path_factory.mktemp("log") / "log"
    )


def frames(log: PreparedLog) -> dict[Part, pl.DataFrame]:
    return {"train": log.train, "validation": log.validation, "test": log.test}


def known_of(log: PreparedLog, part: Part) -> pl.DataFrame:
    """Everything of ``part`` and of those before it, in order of (user, seq)."""
    parts = [frames(log)[each] for each in PARTS[: PARTS.index(part) + 1]]
    return pl.concat(parts).sort("user", "seq")


SPEC = NeighbourSpec(count=3, events=4)


@pytest.mark.parametrize("part", PARTS)
def test_neighbours_are_known_until_the_target_s_own_time(log: PreparedLog, part: Part) -> None:
    others = Others.of(log, SPEC.model_copy(update={"seen": "target"}))
    keys = EventKeys.of(frames(log)[part])

    found_BWL = others.histories(keys, part)

    users_UW, known = neighbours(log.train, log.users, log.items, 3), known_of(log, part)
    for row, (user, at) in enumerate(zip(keys.user_B, keys.at_B, strict=True)):
        expected = [newest_of(known, other, 4, at) for other in users_UW[user]]
        assert found_BWL[row].tolist() == expected
    assert (found_BWL > 0).any()


@pytest.mark.parametrize("part", PARTS)
def test_neighbours_at_the_end_of_training_tell_nothing_of_a_later_part(
    log: PreparedLog, part: Part
) -> None:
    others = Others.of(log, SPEC.model_copy(update={"seen": "end"}))
    keys = EventKeys.of(frames(log)[part])

    found_BWL = others.histories(keys, part)

    known = known_of(log, "validation") if part == "test" else log.train
    users_UW = neighbours(log.train, log.users, log.items, 3)
    for row, user in enumerate(keys.user_B):
        assert found_BWL[row].tolist() == [newest_of(known, other, 4) for other in users_UW[user]]


def test_nobody_is_padding() -> None:
    behaviour = Behaviour.of(events_of([[(0, True)] * 3], labelled=False), 1)
    past: dict[Part, Behaviour] = dict.fromkeys(PARTS, behaviour)
    keys = EventKeys(np.array([0]), np.array([0]), np.array([9.0]))

    for seen in ("target", "end"):
        spec = SPEC.model_copy(update={"seen": seen})
        found = Others(np.array([[0, -1]]), past, spec).histories(keys, "train")
        assert found.tolist() == [[[0, 1, 2, 3], [0, 0, 0, 0]]]


def config_of(log: PreparedLog, seen: Literal["target", "end"] = "target") -> MethodConfig:
    own = {"shared": 6, "window": 3, "others": {"count": 3, "events": 4, "seen": seen}}
    return resolve("cigar", log.items, "pool", {"cigar": own}, known_fields(log))


def test_a_batch_holds_the_profile_and_the_neighbours_of_each_row(log: PreparedLog) -> None:
    data, rng = Dataset(log, config_of(log), torch.device("cpu")), np.random.default_rng(0)

    batches = [*data.epoch(rng, 16, 2), *data.validation(50, 2)]

    for batch in batches:
        rows = len(batch.history_BH)
        assert batch.history_BH.shape == (rows, 6)
        assert batch.profile_BM is not None
        assert batch.profile_BM.shape == (rows, 1)
        assert set(batch.profile_BM.ravel().tolist()) <= {1, 2}
        assert batch.others_BWL is not None
        assert batch.others_BWL.shape == (rows, 3, 4)


def test_a_batch_holds_the_group_of_each_row(log: PreparedLog) -> None:
    config = resolve("pinrec", log.items, "pool", {"pinrec": {"groups": 3}})
    data, keys = Dataset(log, config, torch.device("cpu")), EventKeys.of(log.test)

    batch = data.batch(keys, np.ones((len(log.test), 1), np.int64), np.zeros(0, np.float32))

    groups_U = by_activity(events_of_users(log), 3)
    assert batch.groups_B is not None
    assert batch.groups_B.tolist() == groups_U[log.test["user"].to_numpy()].tolist()


def test_a_method_that_reads_neither_gets_neither(log: PreparedLog) -> None:
    config = resolve("base", log.items, "pool", {})

    batch = Dataset(log, config, torch.device("cpu")).sample(np.random.default_rng(0), 8)

    assert (batch.profile_BM, batch.others_BWL, batch.groups_B) == (None, None, None)
    assert batch.candidates_BC.shape == (8, 1)


def test_training_reads_no_later_part(log: PreparedLog, tmp_path: Path) -> None:
    """Whatever the validation and test parts hold, training rows stay as they are."""
    cut = log.train["user", "seq"].group_by("user").len()
    events = log.events.join(cut, on="user").with_columns(
        item=pl.when(pl.col("seq") < pl.col("len")).then("item").otherwise(pl.lit(1, pl.Int32))
    )
    raw = events.select("user", "item", "at")
    changed = prepare(Source("crowd", raw), "user-tail", tmp_path / "log")
    rows = []

    for each in (log, changed):
        config = config_of(log).model_copy(update={"features": config_of(changed).features})
        data = Dataset(each, config, torch.device("cpu"))
        rows.append(list(data.epoch(np.random.default_rng(0), 64, 2)))

    assert not changed.test["item"].equals(log.test["item"])
    for one, other in zip(*rows, strict=True):
        assert torch.equal(one.history_BH, other.history_BH)
        assert torch.equal(one.candidates_BC, other.candidates_BC)
        assert torch.equal(one.others_BWL, other.others_BWL)
