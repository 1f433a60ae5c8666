"""The drill comes to every place, and kills as often as it says."""

from typing import get_args

import pytest

from bench.drill import MOST_KILLS, acts
from cloud_server.failpoints import NAMES
from simulator.faults import Faults, Poison, strikes
from simulator.rounds import Part


def plays(kills: int) -> dict[str, Faults]:
    return {
        act.name: Faults.model_validate({"seed": 0, "faults": act.faults}) for act in acts(kills)
    }


def test_every_failpoint_is_armed_once() -> None:
    places = [place for faults in plays(20).values() for place in faults.failpoints]

    assert sorted(place.partition(":")[0] for place in places) == sorted(NAMES)


@pytest.mark.parametrize("kills", [1, 20, 33, 200])
def test_so_many_kills_are_played_half_of_them_with_each_method(kills: int) -> None:
    killed = {
        act.name: [fault["times"] for fault in act.faults]
        for act in acts(kills)
        if act.name.startswith("kills-")
    }

    times = [each for listed in killed.values() for each in listed]
    assert sum(times) == kills
    assert max(times) <= MOST_KILLS
    of_ecrec = sum(sum(listed) for name, listed in killed.items() if "ecrec" in name)
    assert of_ecrec - (kills - of_ecrec) in (0, 1)


def test_no_two_kills_of_a_replay_share_a_round() -> None:
    for act in acts(200):
        rounds = [Part(number, number, number + 1) for number in range(1, act.rounds + 1)]
        faults = Faults.model_validate({"seed": 0, "faults": act.faults})
        drawn = [s.round for s in strikes(faults, rounds) if s.fault.kind == "kill-cloud"]
        assert len(set(drawn)) == len(drawn)


def test_all_other_kinds_and_every_poison_are_played() -> None:
    others = plays(20)["others"].faults

    kinds = {fault.kind for fault in others}
    poisons = {fault.how for fault in others if fault.kind == "poison-release"}
    assert kinds == {
        *("kill-devices", "corrupt-bundle", "clock-jump", "cut-link", "slow-link"),
        "poison-release",
    }
    assert poisons == set(get_args(Poison))
