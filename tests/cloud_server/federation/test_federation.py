"""Contributions over a real session: each counts once, by rule, and others see it a round later."""

import json
import sqlite3
from contextlib import closing
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from protos.v1 import tensor_pb2
from protos.v1.collaboration_pb2 import Contribute
from shared_models.contract.bundle import Bundle
from shared_models.contract.errors import BundleIncompatible
from shared_models.contract.manifest import FederationSpec
from shared_models.contract.tensors import Codec, tensor_to_proto
from tests.cloud_server.conftest import SLOTS, Cloud, OpenCloud, make_bundle, release
from tests.cloud_server.federation.conftest import (
    Member,
    assert_all,
    bundle_of,
    deltas,
    message,
    outcome,
)

F32: dict[str, Any] = {"codec": "f32"}


def counts(ledger: Path) -> dict[str, int]:
    """What the cloud's account says of contributions, without zeros."""
    told = json.loads(pl.read_parquet_metadata(ledger)["contributions"])
    return {name: count for name, count in told.items() if count}


async def test_others_see_in_the_next_round_what_was_contributed_in_this_one(
    open_cloud: OpenCloud, together: Bundle
) -> None:
    async with open_cloud(**F32) as cloud:
        one, other = [await Member.joined(cloud, together, user) for user in (1, 2)]

        before = await other.values(round_=1)
        taken = await one.send(message(value=0.1), round_=1)
        same_round = await other.shared(round_=1)
        next_round = await other.shared(round_=2)

        assert_all(before, 0.25)
        assert (outcome(taken), taken.contributions_stored) == ("accepted", 1)
        assert (same_round.version, next_round.version) == (0, 1)
        assert_all(await other.values(round_=2), 0.35)


async def test_the_same_contributions_in_any_order_make_the_same_version_to_the_last_bit(
    open_cloud: OpenCloud, together: Bundle, tmp_path: Path
) -> None:
    made = set()
    for number, order in enumerate(islice(permutations([3, 1, 2, 9]), 2, 24, 5)):
        async with open_cloud(**F32, contributions=tmp_path / f"{number}.sqlite") as cloud:
            for user in order:
                member = await Member.joined(cloud, together, user)
                await member.send(message(deltas=deltas(0.01, seed=user), examples=user))
            made.add((await member.shared(round_=2)).SerializeToString())

    assert len(made) == 1


async def test_a_user_s_contributions_of_a_round_add_up(
    open_cloud: OpenCloud, together: Bundle
) -> None:
    async with open_cloud(**F32) as cloud:
        one, other = [await Member.joined(cloud, together, user) for user in (1, 2)]
        for sequence in range(3):
            await one.send(message(sequence, value=0.01))
        await other.send(message(0, value=0.01, examples=1))

        # Three examples that moved 0.03 weigh three times one that moved 0.01.
        assert_all(await other.values(round_=2), 0.25 + 0.025)


async def test_who_waited_for_what_is_shared_is_told_where_the_time_went(
    open_cloud: OpenCloud, together: Bundle, tmp_path: Path
) -> None:
    async with open_cloud(ledger=tmp_path / "ledger.parquet") as cloud:
        await (await Member.joined(cloud, together, 7)).shared()

    (row,) = pl.read_parquet(tmp_path / "ledger.parquet").filter(purpose="group").to_dicts()

    assert row["queue_seconds"] >= 0
    assert row["compute_seconds"] > 0


async def test_a_contribution_is_on_disk_before_it_is_acknowledged(
    open_cloud: OpenCloud, together: Bundle, root: Path
) -> None:
    async with open_cloud() as cloud:
        member = await Member.joined(cloud, together, 7)
        await member.send(message())

        with closing(sqlite3.connect(root / "contributions.sqlite")) as other:
            stored = other.execute("SELECT user, stored FROM contributors").fetchall()
            waiting = other.execute("SELECT user, examples FROM waiting").fetchall()

    assert (stored, waiting) == ([(7, 1)], [(7, 1)])


async def test_a_contribution_counts_once_however_often_it_is_sent_and_survives_the_cloud(
    open_cloud: OpenCloud, together: Bundle
) -> None:
    async with open_cloud(**F32) as cloud:
        member = await Member.joined(cloud, together, 7)
        first = [await member.send(message(0, value=0.1)) for _ in range(3)]

    async with open_cloud(**F32) as cloud:
        again = await Member.joined(cloud, together, 7)
        later = await again.send(message(0, value=0.1))
        values = await again.values(round_=2)

    assert [outcome(answer) for answer in first] == ["accepted", "duplicate", "duplicate"]
    assert again.contributions_stored == 1
    assert (outcome(later), later.contributions_stored) == ("duplicate", 1)
    assert_all(values, 0.35)


def tensor(name: str, array: Any, codec: Codec = Codec.F32) -> tensor_pb2.Tensor:
    return tensor_to_proto(name, np.asarray(array, np.float32), codec)


def of(*tensors: tensor_pb2.Tensor, **header: int) -> Contribute:
    return Contribute(**{"examples": 1, **header}, deltas=tensors)


WEIGHT, BIAS = (tensor(name, np.zeros(shape)) for name, shape in SLOTS.items())
NAN = np.full(SLOTS["head.bias"], np.nan)
HUGE_SCALE = tensor("head.bias", [1e38] * 6, Codec.I8ROW)
HUGE_SCALE.data = np.array([np.inf], "<f4").tobytes() + bytes([0, 1, 2, 3, 4, 5])
BAD: dict[str, tuple[Contribute, str]] = {
    "nan": (of(WEIGHT, tensor("head.bias", NAN)), "not_finite"),
    "infinite": (of(WEIGHT, tensor("head.bias", NAN * 0 + np.inf)), "not_finite"),
    "infinite scale": (of(WEIGHT, HUGE_SCALE), "not_finite"),
    "huge": (of(WEIGHT, tensor("head.bias", [1e30] * 6)), "too_long"),
    "overflowing": (of(WEIGHT, tensor("head.bias", [3e38] * 6)), "too_long"),
    "just too long": (of(WEIGHT, tensor("head.bias", [1.01, 0, 0, 0, 0, 0])), "too_long"),
    "wrong shape": (of(WEIGHT, tensor("head.bias", np.zeros(7))), "misshapen"),
    "no shape": (of(WEIGHT, tensor_pb2.Tensor(name="head.bias", codec=3)), "misshapen"),
    "other slot": (of(WEIGHT, tensor("head.other", np.zeros(6))), "misshapen"),
    "slot missing": (of(WEIGHT), "misshapen"),
    "slot twice": (of(WEIGHT, BIAS, BIAS), "misshapen"),
    "slots swapped": (of(BIAS, WEIGHT), "misshapen"),
    "short bytes": (
        of(WEIGHT, tensor_pb2.Tensor(name="head.bias", shape=[6], codec=1, data=b"12")),
        "misshapen",
    ),
    "unknown codec": (
        of(WEIGHT, tensor_pb2.Tensor(name="head.bias", shape=[6], codec=0, data=b"")),
        "misshapen",
    ),
    "empty": (Contribute(), "implausible"),
    "learned from nothing": (message(examples=0), "implausible"),
    "from the future": (message(version=1), "implausible"),
    "another group's": (message(group=1), "implausible"),
    "reordered": (message(sequence=1), "out_of_order"),
    "far ahead": (message(sequence=2**63), "out_of_order"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_contribution_is_refused_and_counted_and_moves_nothing(
    open_cloud: OpenCloud, together: Bundle, tmp_path: Path, kind: str
) -> None:
    bad, finding = BAD[kind]
    ledger = tmp_path / "exchanges.parquet"
    async with open_cloud(**F32, ledger=ledger) as cloud:
        member = await Member.joined(cloud, together, 1)

        refused = await member.send(bad)
        untouched = await member.shared(round_=2)
        good = await member.send(message(0), round_=2)
        values = await member.values(round_=3)

    assert (outcome(refused), refused.contributions_stored) == ("refused", 0)
    assert refused.reason
    assert untouched.version == 0
    assert outcome(good) == "accepted"
    assert_all(values, 0.35)
    assert counts(ledger) == {finding: 1, "fresh": 1, "releases": 1}


async def test_a_reordered_contribution_is_taken_once_its_turn_has_come(
    open_cloud: OpenCloud, together: Bundle
) -> None:
    async with open_cloud(**F32) as cloud:
        member = await Member.joined(cloud, together, 1)
        first, second = message(0, value=0.1), message(1, value=0.05)

        answers = [await member.send(each) for each in (second, first, second, first)]

        assert [outcome(a) for a in answers] == ["refused", "accepted", "accepted", "duplicate"]
        assert_all(await member.values(round_=2), 0.4)


async def test_what_started_too_long_ago_is_dropped_and_what_is_a_little_late_still_counts(
    open_cloud: OpenCloud, root: Path, tmp_path: Path
) -> None:
    bundle = release(root, bundle_of(FederationSpec(stale=2)))
    ledger = tmp_path / "exchanges.parquet"
    async with open_cloud(**F32, ledger=ledger) as cloud:
        busy, late = [await Member.joined(cloud, bundle, user) for user in (1, 2)]
        for round_ in (1, 2, 3):
            await busy.send(message(round_ - 1, 0.01, version=round_ - 1), round_)

        stale = await late.send(message(0, version=0), round_=4)
        in_time = await late.send(message(0, version=1), round_=4)
        values = await busy.values(round_=5)

    assert (outcome(stale), stale.contributions_stored) == ("stale", 0)
    assert outcome(in_time) == "accepted"
    assert_all(values, 0.25 + 3 * 0.01 + 0.1)
    assert counts(ledger) == {"fresh": 3, "late": 1, "stale": 1, "releases": 4}


async def test_a_contribution_for_a_round_that_is_over_counts_in_the_present_one(
    open_cloud: OpenCloud, together: Bundle
) -> None:
    async with open_cloud(**F32) as cloud:
        one, other = [await Member.joined(cloud, together, user) for user in (1, 2)]
        await other.shared(round_=5)

        await one.send(message(0), round_=3)

        assert (await other.shared(round_=5)).version == 0
        assert (await other.shared(round_=6)).version == 1


async def test_outside_replays_a_version_is_made_as_soon_as_enough_users_have_contributed(
    open_cloud: OpenCloud, root: Path
) -> None:
    bundle = release(root, bundle_of(FederationSpec(quorum=3)))
    versions = []
    async with open_cloud(**F32) as cloud:
        for user in range(4):
            # What round it is, is not theirs to say.
            member = await Member.joined(cloud, bundle, user, waits=False)
            for sequence in range(2):
                await member.send(message(sequence, 0.01), round_=user)
            versions.append((await member.shared(round_=99)).version)

    assert versions == [0, 0, 1, 1]


async def test_values_that_a_device_has_are_not_sent_again(
    open_cloud: OpenCloud, together: Bundle
) -> None:
    async with open_cloud(**F32) as cloud:
        member = await Member.joined(cloud, together, 1)

        same, unknown = await member.shared(have=0), await member.shared(have=None)
        await member.send(message())
        newer = await member.shared(round_=2, have=0)

    assert (len(same.slots), len(unknown.slots), len(newer.slots)) == (0, 2, 2)
    assert same.ByteSize() == 0


async def test_every_group_learns_by_itself_from_its_own_start(
    open_cloud: OpenCloud, in_groups: Bundle
) -> None:
    async with open_cloud(**F32) as cloud:
        second, first, unknown = [await Member.joined(cloud, in_groups, u) for u in (0, 2, 77)]

        overlays = [await member.shared() for member in (second, first, unknown)]
        taken = await second.send(message(group=2))

        assert [overlay.group for overlay in overlays] == [2, 1, 1]
        assert outcome(taken) == "accepted"
        assert_all(await second.values(round_=2), 2.1)
        assert_all(await first.values(round_=2), 1.0)


async def test_a_later_bundle_with_the_same_slots_goes_on_where_the_values_outlive_theirs(
    open_cloud: OpenCloud, root: Path
) -> None:
    found = {}
    for outlives in (True, False):
        spec = FederationSpec(outlives=outlives)
        old, new = (release(root, bundle_of(spec, log_hash=digit * 64)) for digit in "01")
        async with open_cloud(**F32) as cloud:
            before = await Member.joined(cloud, old, 1)
            await before.send(message(0), round_=1)
            after = await Member.joined(cloud, new, 1)
            found[outlives] = (after.contributions_stored, await after.values(round_=2))

    assert (found[True][0], found[False][0]) == (1, 0)
    assert_all(found[True][1], 0.35)
    assert_all(found[False][1], 0.25)


async def test_a_bundle_whose_devices_learn_alone_takes_no_contribution(
    cloud: Cloud, bundle: Bundle
) -> None:
    device = cloud.device()
    await device.hello(bundle)

    answer = await device.ask(contribute=message())

    assert answer.fault.code == "bad-ask"
    assert "do not learn together" in answer.fault.message


async def test_a_bundle_without_values_to_start_from_is_not_served(
    open_cloud: OpenCloud, root: Path
) -> None:
    about = bundle_of().manifest.model_dump(mode="json", exclude={"files"})
    release(root, make_bundle(**about))

    with pytest.raises(BundleIncompatible, match="no values to start from"):
        async with open_cloud():
            pass


async def test_contributions_are_entered_with_their_purpose_and_bytes(
    open_cloud: OpenCloud, together: Bundle, tmp_path: Path
) -> None:
    ledger = tmp_path / "exchanges.parquet"
    async with open_cloud(**F32, ledger=ledger) as cloud:
        member = await Member.joined(cloud, together, 1)
        await member.send(message())

    (row,) = pl.read_parquet(ledger).filter(purpose="contribute").iter_rows(named=True)
    assert row["user"] == 1
    assert row["bytes_up"] > message().ByteSize()
