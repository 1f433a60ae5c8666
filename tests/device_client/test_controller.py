"""The rules by which a device asks: counts, chance of its own, and the bundle's controller."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_client.controller import Situation, decide
from device_client.settings import DeviceSettings
from shared_models.contract.errors import BadSetting
from shared_models.contract.features import FeatureSpec
from shared_models.contract.manifest import ControllerSpec, Manifest, RefreshRule, UplinkSpec
from shared_models.contract.ranking import Decision
from shared_models.contract.tensors import TensorSpec


def outputs(change: float = 0.0, gain: float = 0.0) -> dict[str, float]:
    return {"change": change, "gain": gain}


def situation(**fields: object) -> Situation:
    usual = Situation(
        user=3, events_seen=20, again=0, refreshed_at=10, debt=0.0, measure=outputs().get
    )
    return replace(usual, **fields)


def asks(rule: RefreshRule, **fields: object) -> bool:
    return decide(rule, situation(**fields)) is Decision.REFRESH


@pytest.mark.parametrize("name", ["once", "always", "every-n", "random", "on-change", "learnt"])
def test_the_first_refresh_of_a_device_is_due_by_every_rule_but_never(name: str) -> None:
    rule = RefreshRule(rule=name, every=100, share=1e-9, threshold=9.0)

    assert asks(rule, refreshed_at=None)
    assert not asks(RefreshRule(rule="never"), refreshed_at=None)


def test_once_asks_no_second_time() -> None:
    assert not asks(RefreshRule(rule="once"), events_seen=10**6, refreshed_at=0)


def test_every_n_asks_at_each_nth_event() -> None:
    rule = RefreshRule(rule="every-n", every=5)

    due = [seen for seen in range(10, 18) if asks(rule, events_seen=seen)]

    assert due == [15, 16, 17]


@pytest.mark.parametrize(("name", "output"), [("on-change", "change"), ("learnt", "gain")])
def test_a_controller_asks_where_its_output_passes_the_threshold(name: str, output: str) -> None:
    rule = RefreshRule(rule=name, threshold=0.5)

    assert asks(rule, measure=outputs(**{output: 0.6}).get)
    assert not asks(rule, measure=outputs(**{output: 0.5}).get)


@given(share=st.floats(0.05, 0.95), seed=st.integers(0, 9))
def test_a_random_rule_asks_at_its_share_and_always_at_the_same_events(
    share: float, seed: int
) -> None:
    rule = RefreshRule(rule="random", share=share)
    moments = [situation(user=user, events_seen=n) for user in range(20) for n in range(11, 111)]

    drawn = [decide(rule, moment, seed) for moment in moments]

    assert drawn == [decide(rule, moment, seed) for moment in moments]
    assert drawn.count(Decision.REFRESH) / len(drawn) == pytest.approx(share, abs=0.06)


def test_a_device_in_debt_waits_whatever_its_rule_says() -> None:
    assert not asks(RefreshRule(rule="always", budget=10.0), debt=1.0)
    assert asks(RefreshRule(rule="always", budget=10.0), debt=0.0)


def manifest(controller: ControllerSpec | None) -> Manifest:
    return Manifest(
        method="m",
        config={},
        log_hash="",
        features=FeatureSpec(items=5),
        graphs={},
        slots=(TensorSpec(name="s", shape=(1,)),),
        refresh=RefreshRule(rule="always", max_age=7),
        uplink=UplinkSpec(items=5),
        controller=controller,
        files={},
    )


def test_a_share_becomes_the_threshold_that_calibration_has_for_it() -> None:
    spec = ControllerSpec(calibration={"change": (0.9, 0.5, 0.2, 0.0), "gain": (9.0,) * 4})
    settings = DeviceSettings(refresh=RefreshRule(rule="on-change", share=0.5))

    rule = settings.rule(manifest(spec))

    assert (rule.threshold, rule.max_age) == (0.5, 7)


def test_a_given_threshold_is_kept() -> None:
    spec = ControllerSpec(calibration={"change": (0.9, 0.5), "gain": (9.0, 8.0)})
    settings = DeviceSettings(refresh=RefreshRule(rule="learnt", threshold=0.25))

    assert settings.rule(manifest(spec)).threshold == 0.25


def test_a_rule_that_needs_a_controller_says_so_where_the_bundle_has_none() -> None:
    settings = DeviceSettings(refresh=RefreshRule(rule="learnt"))

    with pytest.raises(BadSetting, match="needs a controller"):
        settings.rule(manifest(None))
