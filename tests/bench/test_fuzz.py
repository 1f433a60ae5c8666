"""Whatever comes from outside is taken or refused; it never breaks what parses it."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.fuzz_targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=200))
def test_bytes_that_mean_nothing_are_refused(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_valid_input_with_a_few_bytes_changed_is_taken_or_refused(name: str, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - of a test
    data = bytearray(chance.choice(TARGETS[name].seeds) or b"\x00")
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(len(data))] = chance.randrange(256)

    TARGETS[name](bytes(data))
