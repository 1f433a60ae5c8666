"""Numbers in the page read as people write them."""

import pytest

from simulator.report.texts import milliseconds, size


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (0.303, "0.303 B"),
        (999.4, "999 B"),
        (999.6, "1 kB"),
        (4_057, "4.06 kB"),
        (999_600, "1 MB"),
        (4.2e12, "4,200 GB"),
    ],
)
def test_bytes_have_a_unit_that_three_digits_fit(number: float, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0481, "0.0481 ms"), (999.4, "999 ms"), (999.6, "1,000 ms"), (1222.6, "1,223 ms")],
)
def test_no_time_is_told_as_a_power_of_ten(number: float, text: str) -> None:
    assert milliseconds(number) == text
