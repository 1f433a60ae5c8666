"""The service's bench without its measurements: verdicts, schedules, frames, arguments, ends."""

import asyncio
import json

import numpy as np
import psutil
import pytest

from bench.floor import Frames, framed
from bench.load import arrivals
from bench.processes import serving, told
from bench.ratios import Ratio, Verdict, judged, table, taking_turns
from bench.service import MEASURES, chosen
from shared_models.contract.errors import RunFailed

SPEED = Ratio("speed", "ours / theirs", target=0.5)


class Transport(asyncio.Transport):
    """Notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))


def test_the_median_round_is_held_against_the_target() -> None:
    good = Verdict(SPEED, [(1, 10), (6, 10), (9, 10)])
    short = Verdict(SPEED, [(1, 10), (4, 10), (9, 10)])

    assert (good.median, good.holds) == (0.6, True)
    assert (short.median, short.holds) == (0.4, False)


def test_the_table_has_a_line_for_each_ratio_beside_its_target() -> None:
    found = table([Verdict(SPEED, [(6, 10)]), Verdict(Ratio("size", "a / b", 2), [(1, 1)])])

    assert found.splitlines()[2:] == [
        "| ours / theirs | 0.60 | 0.60 | 0.5 | holds |",
        "| a / b | 1.00 | 1.00 | 2 | SHORT |",
    ]


def test_whoever_goes_second_in_one_round_goes_first_in_the_next() -> None:
    order = []

    def measured(name: str, rate: float) -> float:
        order.append(name)
        return rate

    verdict = judged(SPEED, taking_turns(lambda: measured("a", 1), lambda: measured("b", 2)))

    assert order == ["a", "b", "b", "a", "a", "b"]
    assert verdict.each == [0.5] * 3


def test_arrivals_are_a_poisson_process_that_its_generator_decides() -> None:
    due = arrivals(1000, 20, np.random.default_rng(0))
    gaps = np.diff(due)

    assert (due == arrivals(1000, 20, np.random.default_rng(0))).all()
    assert len(due) != len(arrivals(1000, 20, np.random.default_rng(1)))
    assert (gaps >= 0).all()
    assert 0 <= due[0] <= due[-1] <= 20
    assert len(due) == pytest.approx(20_000, rel=0.03)
    # Exponential gaps are as spread as they are long; a regular clock's are not spread at all.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 8, 1000])
def test_messages_are_answered_whole_however_the_stream_is_cut(cut: int) -> None:
    received: list[bytes] = []
    transport = Transport()

    def reply(message: bytes) -> bytes:
        received.append(message)
        return message.upper()

    frames = Frames(reply)
    frames.connection_made(transport)
    stream = framed(b"abc") + framed(b"") + framed(b"defgh")
    for start in range(0, len(stream), cut):
        frames.data_received(stream[start : start + cut])

    assert received == [b"abc", b"", b"defgh"]
    assert transport.written == [framed(b"ABC"), framed(b""), framed(b"DEFGH")]


def test_the_targets_are_those_of_the_reference() -> None:
    assert {ratio.name: ratio.target for ratio in MEASURES} == {
        "unary": 2.5,
        "floor": 0.15,
        "accounting": 0.95,
        "metrics": 0.95,
        "batcher": 3.0,
        "ranking": 3.0,
        "download": 0.18,
        "overload": 0.8,
        "fallback": 1.0,
    }
    assert all(ratio.rounds >= 3 for ratio in MEASURES)


def test_only_what_is_named_is_measured() -> None:
    assert [ratio.name for ratio in chosen(["--only", "overload", "unary"])] == [
        "unary",
        "overload",
    ]
    assert list(chosen([])) == list(MEASURES)
    with pytest.raises(SystemExit, match="2"):
        chosen(["--only", "speed"])


def test_a_server_ends_with_its_context_however_that_is_left() -> None:
    seen = []

    def cut_short() -> None:
        with serving("bench.floor", "server") as server:
            seen.append((server.pid, psutil.pid_exists(server.pid)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_short()

    ((pid, was_there),) = seen
    assert was_there
    assert not psutil.pid_exists(pid)


def test_a_client_that_fails_or_says_nothing_of_use_is_told() -> None:
    with pytest.raises(RunFailed, match=r"bench\.floor ended with 2"):
        told("bench.floor", "dance")
    with pytest.raises(RunFailed, match="does not listen"), serving("json.tool", "--help"):
        pass


@pytest.mark.slow
def test_every_client_of_the_echo_tells_its_rate() -> None:
    brief = ("--seconds", "1", "--warm-up", "0.1", "--devices", "2")
    with serving("bench.echo", "server") as echo, serving("bench.floor", "server") as raw:
        rates = [
            told("bench.echo", "client", "--address", echo.address, "--kind", "stream", *brief),
            told("bench.echo", "client", "--address", echo.address, "--kind", "unary", *brief),
            told("bench.floor", "client", "--address", raw.address, *brief),
            told(
                *("bench.accounting", "--address", echo.address, "--bare", echo.address),
                *("--turns", "1", "--turn", "0.1"),
            ),
        ]

    assert all(rate > 0 for told_ in rates for rate in told_.values()), json.dumps(rates)
