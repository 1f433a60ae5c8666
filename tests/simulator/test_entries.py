"""What a run plays: methods with settings of their own."""

import pytest

from shared_models.contract.errors import BadSetting, UnknownName
from simulator.compose import compose, narrowed
from simulator.entries import BASELINES, PRESETS, Entry, read_entry, slug


def test_a_method_is_an_entry_without_settings() -> None:
    assert read_entry("duet") == Entry("duet", "duet")


def test_an_entry_brings_its_own_settings() -> None:
    text = 'duet[device.refresh.rule=every-n, device.refresh.every=5,device.providers=["a","b"]]'

    entry = read_entry(text)

    assert (entry.label, entry.method) == (text, "duet")
    assert entry.assignments == (
        "device.refresh.rule=every-n",
        "device.refresh.every=5",
        'device.providers=["a","b"]',
    )


def test_a_preset_keeps_its_name() -> None:
    entry = read_entry("never")

    assert (entry.label, entry.method) == ("never", "duet")
    assert entry.assignments == ("device.refresh.rule=never",)


def test_an_entry_can_have_a_name() -> None:
    entry = read_entry("5 events old: duet[device.uplink_lag=5]")
    scenario = compose(None, {"methods": ["the base: base", "duet"], "against": ["the base"]})

    assert entry == Entry("5 events old", "duet", ("device.uplink_lag=5",))
    assert read_entry("cheap: latent").method == "duet"
    assert scenario.references == ("the base",)


@pytest.mark.parametrize("text", ["", "duet[", "duet]x[", "two words"])
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="METHOD"):
        read_entry(text)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_is_an_entry_of_a_scenario(name: str) -> None:
    entry = read_entry(name)
    scenario = compose(None, {"methods": [name]})

    assert narrowed(scenario, entry).methods == (entry.method,)


def test_an_entry_changes_its_own_scenario_only() -> None:
    other = "duet[duet.code=16,device.refresh.rule=never,cloud.codec=i8row,trunk=din]"
    scenario = compose(None, {"methods": ["duet", other], "trunk": "gru4rec"}, ["duet.max_lag=3"])

    plain, changed = (narrowed(scenario, read_entry(text)) for text in scenario.methods)

    assert plain.settings == {"duet": {"max_lag": 3}}
    assert (plain.device, plain.cloud, plain.trunk.name) == ({}, {}, "gru4rec")
    assert changed.settings == {"duet": {"max_lag": 3, "code": 16}}
    assert changed.device == {"refresh": {"rule": "never"}}
    assert changed.cloud_flags == ['codec="i8row"']
    assert changed.trunk.name == "din"


@pytest.mark.parametrize(
    "setting", ["devices=3", "log=x.csv", "base.width=3", "seeds=[1]", "replay.candidates=full"]
)
def test_what_all_entries_share_is_no_setting_of_one(setting: str) -> None:
    entry = read_entry(f"duet[{setting}]")

    with pytest.raises(UnknownName, match="setting of the entry"):
        narrowed(compose(None, {"methods": [entry.label]}), entry)


def test_a_whole_section_of_an_entry_that_is_no_section_is_told() -> None:
    entry = read_entry("duet[replay=5]")

    with pytest.raises(BadSetting, match="'replay': expected a valid dictionary"):
        narrowed(compose(None, {"methods": [entry.label]}), entry)


def test_an_entry_may_have_rounds_and_releases_of_its_own() -> None:
    entry = read_entry("often: base[replay.round_events=50,replay.retrain=3]")
    scenario = compose(None, {"methods": ["base"]}, ["replay.moments=400"])

    replay = narrowed(scenario, entry).replay

    assert (replay.round_events, replay.retrain, replay.moments) == (50, 3, 400)


def test_two_entries_cannot_have_the_same_name() -> None:
    with pytest.raises(BadSetting, match="same name"):
        compose(None, {"methods": ["a b: base", "a b: duet"]})


def test_only_what_is_played_can_be_compared_with() -> None:
    with pytest.raises(BadSetting, match=r"not among the methods$"):
        compose(None, {"methods": ["base", "duet"], "against": ["popularity"]})


@pytest.mark.parametrize("label", [*PRESETS, "duet[device.refresh.rule=never]", "a/b c"])
def test_a_label_becomes_a_part_of_a_file_name(label: str) -> None:
    assert "/" not in slug(label)
    assert " " not in slug(label)


def test_many_entries_have_a_short_folder() -> None:
    scenario = compose(None, {"methods": list(BASELINES)})

    assert scenario.folder.name == f"{len(BASELINES)}-entries.sasrec.movielens-100k"
