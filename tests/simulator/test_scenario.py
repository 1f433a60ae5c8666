"""Scenarios: where settings come from, what wins, and what is refused."""

from pathlib import Path

import pytest

from shared_models.contract.errors import BadSetting, InputError, PathMissing, UnknownName
from simulator import recipes
from simulator.compose import compose
from simulator.scenario import Scenario, dump

FILE = """
methods: [base, duet]
trunk: gru4rec
devices: 2
duet:
  max_lag: 5
  code: 8
train: {learning_rate: 1e-3}
replay: {round_events: 50}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.yaml"
    path.write_text(FILE)
    return path


def test_options_win_over_the_file_and_assignments_over_options(file: Path) -> None:
    options = {"devices": 3, "trunk": "din"}

    scenario = compose(file, options, ["devices=4", "replay.round_events=60"])

    assert scenario.trunk.name == "din"
    assert scenario.devices == 4
    assert scenario.replay.round_events == 60
    assert scenario.methods == ("base", "duet")


def test_an_assignment_changes_one_leaf_and_leaves_its_neighbours(file: Path) -> None:
    scenario = compose(file, {}, ["duet.max_lag=20"])

    assert scenario.settings == {"duet": {"max_lag": 20, "code": 8}}


def test_values_come_with_their_types(file: Path) -> None:
    scenario = compose(file, {}, ["train.epochs=3", "duet.refresh=always", "train.amp=true"])

    assert scenario.train == {"learning_rate": 0.001, "epochs": 3, "amp": True}
    assert scenario.settings["duet"]["refresh"] == "always"


def test_the_cloud_gets_the_settings_of_the_method_that_it_trains() -> None:
    assignments = ["duet.max_lag=20", "trunk.width=64", "train.epochs=1"]

    scenario = compose(None, {"methods": ["base", "duet"]}, assignments)

    assert scenario.cloud_settings("base") == ["train.epochs=1", "trunk.width=64"]
    assert scenario.cloud_settings("duet") == [
        "train.epochs=1",
        "trunk.width=64",
        "duet.max_lag=20",
    ]


def test_a_scenario_that_was_written_down_is_read_back(file: Path, tmp_path: Path) -> None:
    scenario = compose(file, {"seeds": [1, 2], "out": tmp_path}, [])
    copy = tmp_path / "copy.yaml"

    copy.write_text(dump(scenario))

    assert compose(copy, {}) == scenario


@pytest.mark.parametrize(
    ("assignment", "error", "words"),
    [
        ("replay.round_evnts=3", UnknownName, "did you mean 'replay.round_events'"),
        ("due.max_lag=3", UnknownName, "did you mean 'duet'"),
        ("devices=0", BadSetting, "'devices': expected greater than 0, got 0"),
        ("devices=four", BadSetting, "'devices': expected a valid integer, got 'four'"),
        ("devices=true", BadSetting, "expected a valid integer, got True"),
        ("seeds=[1, 1]", BadSetting, "name each one once"),
        ("seeds=[-1]", BadSetting, "seeds.0"),
        ("methods=[]", BadSetting, "methods"),
        (
            "split=sideways",
            BadSetting,
            "expected 'user-tail', 'global-time' or 'leave-one-out', got 'sideways'",
        ),
        ("duet=3", BadSetting, "settings.duet"),
        ('links=["4g", "4g"]', BadSetting, "name each one once"),
        ("settings.cigar={}", BadSetting, "not among the methods"),
        ("devices", BadSetting, "path.to.setting=value"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected(
    assignment: str, error: type[InputError], words: str
) -> None:
    with pytest.raises(error) as caught:
        compose(None, {}, [assignment])

    assert words in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "just words"])
def test_a_scenario_file_must_hold_settings(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)

    with pytest.raises(BadSetting, match=r"broken\.yaml"):
        compose(path, {})


def test_a_date_in_a_scenario_file_is_text_which_the_cloud_can_refuse(tmp_path: Path) -> None:
    path = tmp_path / "dated.yaml"
    path.write_text("train: {epochs: 2020-01-01}\ncloud: {history: 2020-01-01 10:00:00}")

    scenario = compose(path, {})

    assert scenario.cloud_settings("base") == ['train.epochs="2020-01-01"']
    assert scenario.cloud_flags == ['history="2020-01-01 10:00:00"']


def test_binary_junk_and_missing_files_are_no_scenarios(tmp_path: Path) -> None:
    junk = tmp_path / "junk.yaml"
    junk.write_bytes(bytes(range(256)))

    with pytest.raises(BadSetting):
        compose(junk, {})
    with pytest.raises(PathMissing):
        compose(tmp_path / "none.yaml", {})


def test_results_have_a_place_that_says_what_was_played() -> None:
    scenario = Scenario(methods=("base", "duet"), log="data/shop.csv")

    assert scenario.folder == Path("runs/base-duet.sasrec.shop")


@pytest.mark.parametrize("recipe", [recipes.demo, recipes.quick])
def test_a_recipe_can_be_written_down_and_played_again(recipe, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    copy = tmp_path / "recipe.yaml"
    copy.write_text(dump(recipe()))

    assert compose(copy, {}) == recipe()


def test_on_a_link_every_session_has_its_own_unless_said_otherwise() -> None:
    assert compose(None, {}).device_settings == {}
    assert compose(None, {}, ["link=4g"]).device_settings == {"channel": "own"}
    shared = compose(None, {}, ["link=4g", "device.channel=shared", "links=3g"])
    assert shared.device_settings == {"channel": "shared"}
    assert shared.links == ("3g",)
