"""How a run shows itself while it goes."""

import io

import numpy as np
import pytest
from rich.console import Console

from shared_models.contract.metrics import evaluate
from simulator.meter import Meter, Standing
from simulator.progress import Display, size
from simulator.tally import Tally
from tests.simulator.conftest import USERS, make_moments, make_rankings


def standing(done: int) -> Standing:
    return Standing("duet (sasrec, seed 0)", 7, done, 100, 0.5, 0.25, 2048, 3 << 20, 2.0)


def shown(*steps: tuple[float, int], terminal: bool = False) -> str:
    """What is shown of standings that come at given seconds."""
    now = [0.0]
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200)
    with Display(console, clock=lambda: now[0]) as display:
        for at, done in steps:
            now[0] = at
            display.show(standing(done))
    return out.getvalue()


def test_outside_a_terminal_a_plain_line_comes_every_few_seconds() -> None:
    text = shown((1, 10), (2, 20), (6, 30), (7, 40))

    assert text == (
        "duet (sasrec, seed 0): users 7, events 30 of 100, events/s 15, HR@10 0.5000, "
        "NDCG@10 0.2500, up 2.0 KiB, down 3.0 MiB\n"
    )


def test_the_end_of_a_run_is_always_shown() -> None:
    assert "events 100 of 100" in shown((1, 10), (2, 100))


def test_a_terminal_gets_a_live_table() -> None:
    text = shown((1, 10), (2, 20), terminal=True)

    assert "NDCG@10" in text
    assert "20 of 100" in text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
)
def test_sizes_are_read_easily(count: int, text: str) -> None:
    assert size(count) == text


def test_what_is_shown_in_the_end_is_what_is_reported() -> None:
    moments = make_moments()
    tally, meter = Tally(moments), Meter("run", moments, clock=lambda: 0.0)
    rng = np.random.default_rng(0)

    for moment in range(len(moments)):
        report = make_rankings([moment], rng.random(moments.sizes[moment]))
        last = meter.read(tally, tally.enter(0, report), (1, 2))

    final = evaluate(tally.evaluated(), USERS)
    assert last.hit_rate == pytest.approx(final["hr@10"].value)
    assert last.ndcg == pytest.approx(final["ndcg@10"].value)
    assert last.is_over
