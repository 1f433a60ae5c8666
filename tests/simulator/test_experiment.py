"""What a scenario is refused for before anything is done."""

from pathlib import Path

import pytest

from shared_models.contract.errors import BadSetting
from simulator.experiment import plan
from simulator.faults import Faults
from simulator.scenario import Scenario
from simulator.sites import Sites

COME = Sites(devices_come=True)
HOSTED = Sites(elsewhere={"cloud_server.cli": lambda *_: pytest.fail("it was asked")})


@pytest.mark.parametrize("sites", [COME, HOSTED])
def test_what_runs_on_another_machine_is_not_killed(sites: Sites) -> None:
    faults = Faults.model_validate({"faults": [{"kind": "kill-devices"}]})

    with pytest.raises(BadSetting, match="'faults': only what is started on this machine"):
        plan(Scenario(faults=faults), sites)


def test_devices_that_come_by_themselves_write_no_history_here() -> None:
    with pytest.raises(BadSetting, match="'history': only devices that are started on this"):
        plan(Scenario(history=True), COME)


def test_two_traces_of_one_name_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    for ride in ("there", "back"):
        (tmp_path / ride).mkdir()
        (tmp_path / ride / "train.csv").write_text("seconds,down_mbit,up_mbit,rtt_ms\n0,1,1,1\n")
    traces = (str(tmp_path / "there" / "train.csv"), str(tmp_path / "back" / "train.csv"))

    with pytest.raises(BadSetting, match=r"links.*two are called 'train\.csv'"):
        plan(Scenario(links=traces), HOSTED)
