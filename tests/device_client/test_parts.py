"""The small parts of a device."""

import sys
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_client.backoff import delays
from device_client.history import History
from device_client.ledger import DeviceLedger
from device_client.outbox import Outbox
from device_client.overlays import Overlays
from device_client.settings import DeviceSettings
from shared_models.contract.errors import BadSetting, SlotMismatch, UnknownName
from shared_models.contract.events import Event
from shared_models.contract.manifest import RefreshRule
from shared_models.contract.overlay import Overlay
from shared_models.contract.tensors import TensorSpec
from tests.device_client.fakes import build_bundle

SLOTS = (TensorSpec(name="a", shape=(2,)), TensorSpec(name="b", shape=(1,)))


def overlay(events_seen: int, bundle_id: str = "x", **slots: list[float]) -> Overlay:
    arrays = {name: np.array(value, np.float32) for name, value in slots.items()}
    return Overlay(bundle_id, events_seen, arrays)


@given(st.lists(st.integers(1, 9)), st.lists(st.integers(1, 9)), st.integers(0, 8))
def test_a_window_is_the_tail_of_everything_seen_so_long_ago(
    before: list[int], events: list[int], lag: int
) -> None:
    history = History(4 + lag, before)
    for item in events:
        history.observe(Event(item, 0.0))

    everything = (before + events)[: len(before) + len(events) - lag or None]
    everything = everything if len(before) + len(events) > lag else []
    assert history.window(4, lag) == everything[-4:]
    assert history.events_seen == len(before) + len(events)


def test_a_history_forgets_what_no_longer_fits() -> None:
    history = History(3, range(1, 1000))

    assert history.window(100) == [997, 998, 999]
    assert sys.getsizeof(history._items) < 200


def test_an_older_overlay_is_refused() -> None:
    overlays = Overlays("x", SLOTS)
    overlays.accept(overlay(5, a=[1, 1]))

    taken = overlays.accept(overlay(4, a=[2, 2]))

    current = overlays.current(5)
    assert not taken
    assert current is not None
    assert current.slots["a"].tolist() == [1, 1]


def test_an_overlay_of_another_bundle_is_dropped() -> None:
    overlays = Overlays("x", SLOTS)

    assert not overlays.accept(overlay(5, bundle_id="y", a=[1, 1]))
    assert overlays.current(5) is None


def test_slots_that_an_overlay_leaves_out_stay_as_they_are() -> None:
    overlays = Overlays("x", SLOTS)
    overlays.accept(overlay(1, a=[1, 1], b=[1]))
    overlays.accept(overlay(2, b=[2]))

    current = overlays.current(2)

    assert current is not None
    assert current.age(2) == 0
    assert {name: value.tolist() for name, value in current.slots.items()} == {
        "a": [1, 1],
        "b": [2],
    }


def test_a_slot_that_the_bundle_does_not_have_is_refused() -> None:
    with pytest.raises(SlotMismatch, match="'c'"):
        Overlays("x", SLOTS).accept(overlay(1, c=[1]))


def test_an_outbox_forgets_only_what_is_stored() -> None:
    outbox = Outbox(bound=10, batch=2)
    outbox.anchor(5)
    for item in (1, 2, 3):
        outbox.add(Event(item, 0.0))

    outbox.acknowledged(7)

    pending = outbox.pending()
    assert (pending.first, [event.item for event in pending.events]) == (7, [3])
    outbox.acknowledged(100)
    assert (len(outbox), outbox.taken) == (0, 3)


def test_ledgers_add_up() -> None:
    one, two = DeviceLedger(), DeviceLedger()
    for ledger in (one, two):
        ledger.sent(1, "refresh", 10)
        ledger.received(1, "refresh", 100)
        ledger.sent(None, "bundle", 7)

    one.merge(two)

    rows = {
        key: (t.bytes_up, t.bytes_down, t.asks) for *key, t in one.rows() for key in [tuple(key)]
    }
    assert rows == {(1, "refresh"): (20, 200, 2), (None, "bundle"): (14, 0, 2)}
    assert (one.payload.bytes_up, one.payload.bytes_down) == (20, 200)


def test_waits_grow_to_a_second_and_differ_between_waiters() -> None:
    one, two = list(islice(delays(1), 8)), list(islice(delays(2), 8))

    assert all(0.05 <= wait <= 1.0 for wait in one)
    assert min(one[-3:]) >= 0.5 > one[0]
    assert one != two


def test_on_a_connection_of_its_own_a_session_asks_alone() -> None:
    assert DeviceSettings(in_flight=8).crossing == 8
    assert DeviceSettings(in_flight=8, channel="own").crossing == 1


def test_settings_of_a_run_go_over_those_of_the_process_field_by_field() -> None:
    own = DeviceSettings(in_flight=8, refresh=RefreshRule(rule="every-n", every=7))

    changed = own.overridden('{"refresh": {"every": 3}, "uplink_lag": 2}')

    assert (changed.in_flight, changed.uplink_lag) == (8, 2)
    assert changed.refresh is not None
    assert (changed.refresh.rule, changed.refresh.every) == ("every-n", 3)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ('{"in_fligt": 3}', UnknownName, "device.in_flight"),
        ('{"refresh": {"rule": "sometimes"}}', BadSetting, "device.refresh.rule"),
        ('{"in_flight": "many"}', BadSetting, "device.in_flight"),
        ('{"in_flight": 500}', BadSetting, "raise open_sessions"),
        ('{"seed": 18446744073709551616}', BadSetting, "device.seed"),
        ('{"cloud": "here"}', BadSetting, "HOST:PORT"),
        ("[1]", BadSetting, "JSON object"),
        ("{", BadSetting, "not JSON"),
    ],
)
def test_a_wrong_setting_is_named(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        DeviceSettings().overridden(text)


def test_the_environment_sets_what_nobody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCERTO_DEVICE_IN_FLIGHT", "5")

    assert DeviceSettings().in_flight == 5
    assert DeviceSettings(in_flight=6).in_flight == 6


def test_what_a_rule_leaves_out_stays_the_manifests() -> None:
    manifest = build_bundle(refresh={"rule": "always", "max_age": 20}).manifest
    settings = DeviceSettings(refresh=RefreshRule(rule="every-n", every=5))

    rule = settings.rule(manifest)

    assert (rule.rule, rule.every, rule.max_age) == ("every-n", 5, 20)


def test_a_bundle_without_an_uplink_is_never_refreshed() -> None:
    manifest = build_bundle(uplink=None).manifest

    assert DeviceSettings(refresh=RefreshRule(rule="always")).rule(manifest).rule == "never"
