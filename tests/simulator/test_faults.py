"""A file of faults: what it may say, and when everything happens."""

import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml

from cloud_server.failpoints import NAMES
from shared_models.contract.errors import BadSetting, PathMissing, UnknownName
from simulator.compose import compose
from simulator.faults import Faults, Poison, read_faults, strikes
from simulator.rounds import Part
from simulator.scenario import dump

ROUNDS = [Part(number, 100 * (number - 1), 100 * number) for number in range(1, 11)]


def faults(*listed: dict[str, Any], seed: int = 0) -> Faults:
    return Faults.model_validate({"seed": seed, "faults": listed})


def test_a_file_becomes_part_of_the_scenario_that_is_written_down(tmp_path: Path) -> None:
    file, again = tmp_path / "faults.yaml", tmp_path / "scenario.yaml"
    file.write_text("seed: 7\nfaults:\n  - {kind: kill-cloud, times: 3}\n  - {kind: clock-jump}\n")

    scenario = compose(None, {"methods": ["duet"], "faults": read_faults(file)})
    again.write_text(dump(scenario))

    assert scenario.faults is not None
    assert [fault.kind for fault in scenario.faults.faults] == ["kill-cloud", "clock-jump"]
    assert compose(again, {}) == scenario


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("faults: [{kind: earthquake}]", "earthquake"),
        ("faults: [{kind: cut-link, seconds: 0}]", "seconds"),
        ("faults: [{kind: kill-cloud, often: 3}]", "often"),
        ("faults: []", "faults"),
        ("seed: -1\nfaults: [{kind: kill-cloud}]", "seed"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(text)

    with pytest.raises((BadSetting, UnknownName), match=words):
        compose(None, {"faults": read_faults(file)})


@pytest.mark.parametrize("text", ["- a list", "seed: [", "word"])
def test_a_file_that_is_no_mapping_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(text)

    with pytest.raises(BadSetting, match=r"faults\.yaml"):
        read_faults(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PathMissing, match="file of faults"):
        read_faults(tmp_path / "none.yaml")


def test_the_seed_alone_decides_when_things_happen() -> None:
    listed = ({"kind": "kill-cloud", "times": 5}, {"kind": "kill-devices", "times": 5})

    same = strikes(faults(*listed), ROUNDS)

    assert same == strikes(faults(*listed), ROUNDS)
    assert same != strikes(faults(*listed, seed=1), ROUNDS)


def test_strikes_come_in_order_each_within_its_round_and_no_two_of_a_kind_in_one() -> None:
    drawn = strikes(faults({"kind": "kill-cloud", "times": 10}), ROUNDS)

    assert sorted(strike.round for strike in drawn) == list(range(1, 11))
    assert [strike.at for strike in drawn] == sorted(strike.at for strike in drawn)
    for strike in drawn:
        part = ROUNDS[strike.round - 1]
        assert part.start <= strike.at < part.stop


def test_a_round_that_is_named_is_the_one() -> None:
    drawn = strikes(faults({"kind": "cut-link", "round": 4, "times": 3}), ROUNDS)

    assert [strike.round for strike in drawn] == [4, 4, 4]


def test_more_faults_than_rounds_come_round_again() -> None:
    drawn = strikes(faults({"kind": "kill-cloud", "times": 25}), ROUNDS)

    counts = np.bincount([strike.round for strike in drawn])[1:]
    assert counts.sum() == 25
    assert set(counts.tolist()) == {2, 3}


def test_a_round_that_the_replay_does_not_have_is_refused() -> None:
    with pytest.raises(BadSetting, match="has 10 rounds, not 11"):
        strikes(faults({"kind": "cut-link", "round": 11}), ROUNDS)


def test_failpoints_happen_where_the_cloud_comes_to_them_and_not_at_a_moment() -> None:
    given = faults({"kind": "kill-cloud", "failpoints": ["start.ready", "answer.sent:3"]})

    assert strikes(given, ROUNDS) == []
    assert given.failpoints == ("start.ready", "answer.sent:3")


def test_only_faults_of_the_link_need_a_proxy() -> None:
    assert faults({"kind": "slow-link"}).needs_link
    assert faults({"kind": "kill-cloud"}, {"kind": "cut-link"}).needs_link
    assert not faults({"kind": "kill-cloud"}, {"kind": "poison-release"}).needs_link


def test_the_page_shows_files_that_can_be_played_and_names_every_kind_and_poison() -> None:
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text()

    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]

    assert len(shown) == 2
    places = [name for block in shown for name in Faults.model_validate(block).failpoints]
    assert {name.partition(":")[0] for name in places} <= set(NAMES)
    schema = Faults.model_json_schema()["$defs"].values()
    kinds = {about["properties"]["kind"]["const"] for about in schema}
    for name in (*kinds, *get_args(Poison)):
        assert f"`{name}`" in page
    assert f"{len(NAMES)} places in the cloud have a name" in page
