"""The GPU's bench on a CPU: it runs, counts right, and sees a difference where there is one."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from bench.compute import Limits, Work, duet, generator_work, training, training_work
from bench.gpu import measure, parity
from bench.parity import CPU_PROVIDER, relative, told

CPU = torch.device("cpu")


def test_everything_that_is_measured_on_a_gpu_runs_on_a_cpu() -> None:
    limit, *rows = measure(CPU, generator_rows=(1, 8), training_rows=(4,), size=64)

    assert limit.startswith("cpu: at most ")
    assert [row.split(" | ")[1:3] for row in rows] == [
        ["overlays", "1"],
        ["overlays", "8"],
        ["training rows", "4"],
    ]


def test_a_cpu_gives_the_losses_the_overlays_and_the_scores_of_a_cpu() -> None:
    lines, holds = parity(CPU, CPU_PROVIDER, steps=3)

    assert holds
    assert [line.split(":")[0] for line in lines] == [
        "losses of 3 steps",
        "overlays, 64 in a batch",
        "scores by CPUExecutionProvider",
    ]


def test_the_generator_s_work_grows_with_its_rows_and_holds_the_writer_s_product() -> None:
    method = duet()
    slots = sum(value.numel() for value in method.build(0).ranker.head.slots.values())

    few, many = generator_work(method, 8), generator_work(method, 64)

    assert many.operations == 8 * few.operations
    assert few.operations > 8 * 2 * method.config.code * slots
    assert many.bytes - few.bytes > 56 * 4 * slots


def test_a_training_step_is_more_than_twice_its_forward_pass_and_learns() -> None:
    method = duet()
    step, _ = training(method, CPU, 8)

    losses = [float(step()) for _ in range(20)]

    assert training_work(method, 8).operations > 2 * generator_work(method, 8).operations
    assert losses[-1] < losses[0]


def test_the_limit_is_set_by_what_takes_longer() -> None:
    limit = Limits(operations=100.0, bytes=10.0)

    assert limit.least_seconds(Work(operations=200, bytes=10)) == 2
    assert limit.least_seconds(Work(operations=200, bytes=50)) == 5


def test_a_difference_beyond_its_tolerance_is_told() -> None:
    found = relative(np.array([1.0, 2.02]), np.array([1.0, 2.0]))

    lines, holds = told({"losses": (found, 1e-3), "overlays": (0.0, 1e-3)})

    assert found == pytest.approx(0.01)
    assert not holds
    assert [line.endswith("SHORT") for line in lines] == [True, False]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_bench_says_so_in_one_line_and_ends_well() -> None:
    done = subprocess.run([sys.executable, "-m", "bench.gpu"], capture_output=True, text=True)

    assert done.returncode == 0
    assert done.stdout == "there is no GPU here, so there is nothing to measure\n"
