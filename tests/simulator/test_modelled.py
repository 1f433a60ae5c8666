"""Modelled latency: exact where chance has no say, and chance that only seed and entry decide."""

import numpy as np
import polars as pl
import pytest

from shared_models.contract.metrics import Float64Array
from simulator.links import BURST_BYTES, PROFILES, Link, Point
from simulator.modelled import (
    Exchanges,
    Framing,
    modelled_of,
    modelled_seconds,
    with_modelled,
)

PLAIN = Link("plain", (Point(0.0, up_rate=1e6, down_rate=8e6, rtt_s=0.1),))
NO_FRAMING = Framing(0, 0)


def exchanges(count: int, /, **columns: Float64Array | list[float]) -> Exchanges:
    given = {"at": np.zeros(count), "bytes_up": [100] * count, "bytes_down": [4000] * count}
    full = {"count": [1] * count, "compute_s": np.full(count, 0.002), **given, **columns}
    return Exchanges(
        np.asarray(full.get("entry", np.arange(count)), np.int64),
        np.asarray(full["at"], np.float64),
        np.asarray(full["count"], np.int64),
        np.asarray(full["bytes_up"], np.int64),
        np.asarray(full["bytes_down"], np.int64),
        np.asarray(full["compute_s"], np.float64),
    )


def test_an_exchange_costs_compute_round_trip_and_both_messages() -> None:
    sizes = {"bytes_up": [1000, 0], "bytes_down": [100_000, 0]}
    asked = exchanges(2, count=[1, 0], **sizes, compute_s=[0.5, 0.25])

    seconds = modelled_seconds(PLAIN, asked, seed=0, framing=NO_FRAMING)

    # 8,000 bits at 1 Mbit/s, 800,000 at 8; who did not ask waits for nobody.
    np.testing.assert_allclose(seconds, [0.5 + 0.1 + 0.008 + 0.1, 0.25], rtol=1e-12)


def test_framing_travels_with_the_payload_of_those_who_ask() -> None:
    asked = exchanges(2, count=[1, 0], bytes_up=[1000, 0], bytes_down=[1000, 0])

    bare, framed = (
        modelled_seconds(PLAIN, asked, seed=0, framing=framing)
        for framing in (NO_FRAMING, Framing(up=125, down=1000))
    )

    np.testing.assert_allclose(framed - bare, [0.001 + 0.001, 0], atol=1e-12)


def test_the_rates_are_those_of_the_moment() -> None:
    points = (Point(0.0, 1e6, 1e6, 0.1), Point(10.0, 3e6, 3e6, 0.3))
    asked = exchanges(2, at=[0.0, 25.0], bytes_up=[1000, 1000], bytes_down=[1000, 1000])

    seconds = modelled_seconds(Link("trace", points), asked, seed=0, framing=NO_FRAMING)

    np.testing.assert_allclose(seconds, [0.002 + 0.1 + 0.016, 0.002 + 0.2 + 0.008], rtol=1e-12)


def test_jitter_makes_a_round_trip_late_by_at_most_so_much() -> None:
    shaky = Link("shaky", PLAIN.points, jitter_s=0.05)

    late = modelled_seconds(shaky, exchanges(5000), 0) - modelled_seconds(PLAIN, exchanges(5000), 0)

    assert late.min() >= 0
    assert late.max() <= 0.05
    assert late.mean() == pytest.approx(0.025, rel=0.02)


def test_a_second_exchange_waits_for_another_round_trip() -> None:
    shaky = Link("shaky", PLAIN.points, jitter_s=0.05)
    one, two = exchanges(100), exchanges(100, count=[2] * 100)

    more = modelled_seconds(shaky, two, 0) - modelled_seconds(shaky, one, 0)

    late = modelled_seconds(shaky, one, 0) - modelled_seconds(PLAIN, one, 0)
    framing_s = 40 * 8 / 1e6 + 40 * 8 / 8e6
    np.testing.assert_allclose(more, 0.1 + late + framing_s, rtol=1e-9)


def test_losses_stall_each_way_at_their_rate() -> None:
    lossy = Link("lossy", PLAIN.points, loss=0.1, stall_s=1.0)
    asked = exchanges(20_000)

    stalls = modelled_seconds(lossy, asked, 0) - modelled_seconds(PLAIN, asked, 0)

    found = [(np.abs(stalls - count) < 1e-9).mean() for count in (0, 1, 2)]
    np.testing.assert_allclose(found, [0.81, 0.18, 0.01], atol=0.01)


def test_a_message_of_many_bursts_is_likelier_to_stall() -> None:
    lossy = Link("lossy", PLAIN.points, loss=0.1, stall_s=1000.0)
    long = exchanges(5000, bytes_down=[20 * BURST_BYTES - 40] * 5000, bytes_up=[1] * 5000)

    stalled = modelled_seconds(lossy, long, 0) > 500

    assert stalled.mean() == pytest.approx(1 - 0.9**21, abs=0.02)


def test_chance_depends_on_seed_and_entry_only() -> None:
    link = PROFILES["3g"]
    whole = modelled_seconds(link, exchanges(100), 7)
    chosen = [93, 5, 41]

    again = modelled_seconds(link, exchanges(3, entry=chosen), 7)

    assert again.tolist() == whole[chosen].tolist()
    assert not np.array_equal(whole, modelled_seconds(link, exchanges(100), 8))


def test_nothing_to_model_is_nothing() -> None:
    assert modelled_seconds(PLAIN, exchanges(0), 0).shape == (0,)


def rankings(queue_seconds: list[float | None]) -> pl.DataFrame:
    """Three rankings, of which the first two asked."""
    return pl.DataFrame(
        {
            "ask": pl.Series([1, 2, 0], dtype=pl.UInt32),
            "at": [0.0, 1.0, 2.0],
            "bytes_up": pl.Series([100, 100, 0], dtype=pl.UInt32),
            "bytes_down": pl.Series([4000, 4000, 0], dtype=pl.UInt32),
            "exchanges": pl.Series([1, 1, 0], dtype=pl.UInt8),
            "seconds": [0.010, 0.010, 0.002],
            "cloud_seconds": [0.008, 0.008, 0.0],
            "queue_seconds": queue_seconds,
            "compute_seconds": queue_seconds,
        }
    )


def test_compute_is_what_no_link_has_part_in() -> None:
    told = rankings([0.001, 0.001, None])

    modelled = modelled_of(with_modelled(told, np.arange(3), [PROFILES["none"]], seed=0))

    np.testing.assert_allclose(modelled["none"], [0.004, 0.004, 0.002], rtol=1e-12)


@pytest.mark.parametrize("told", [[None, None, None], [0.001, None, None]])
def test_where_an_exchange_is_not_told_of_nothing_is_modelled(told: list[float | None]) -> None:
    modelled = with_modelled(rankings(told), np.arange(3), [PROFILES["4g"]], seed=0)

    assert modelled["modelled_4g"].to_list() == [None] * 3
    assert len(modelled_of(modelled)["4g"]) == 0
