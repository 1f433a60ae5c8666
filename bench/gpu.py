"""DUET on a GPU: overlays and training rows a second, beside the card's own limit and the CPU.

    python -m bench.gpu

The limit of some work is the longer of its operations at the speed of a large matrix product and
its bytes at the speed of a large copy, both measured here. At DUET's size a card is far from it:
what counts is how the rate grows with the batch. Then parity with the CPU (exit code 1 where it
fails): losses and overlays within 1e-3, scores of onnxruntime's CUDA provider within 1e-4.
Where there is no GPU, it says so and ends.
"""

import sys
from collections.abc import Sequence

import onnxruntime
import torch

from bench.compute import Limits, Speed, duet, generator_speed, limits, training_speed
from bench.parity import (
    CUDA_PROVIDER,
    overlay_difference,
    scores_difference,
    told,
    training_difference,
)
from shared_models.export import compile_bundle

CPU = torch.device("cpu")
GENERATOR_ROWS = (1, 8, 64, 512, 4096, 32768)
TRAINING_ROWS = (256, 2048, 16384)


def measure(
    device: torch.device,
    generator_rows: Sequence[int] = GENERATOR_ROWS,
    training_rows: Sequence[int] = TRAINING_ROWS,
    size: int = 8192,
) -> list[str]:
    """Table rows of ``device``."""
    method, limit = duet(), limits(device, size)
    model = method.build(0).eval().to(device)
    lines = [_limit(device, limit)]
    for rows in generator_rows:
        speed = generator_speed(method, model, device, rows, limit)
        lines.append(_row(device, "overlays", rows, speed))
    for rows in training_rows:
        speed = training_speed(method, device, rows, limit)
        lines.append(_row(device, "training rows", rows, speed))
    return lines


def parity(device: torch.device, provider: str | None, steps: int = 20) -> tuple[list[str], bool]:
    """A line for each comparison with the CPU, and whether all hold."""
    method = duet(dropout=0.0)
    model = method.build(0).eval()
    differences = {
        f"losses of {steps} steps": (training_difference(method, device, steps), 1e-3),
        "overlays, 64 in a batch": (overlay_difference(method, model, device, 64), 1e-3),
    }
    if provider:
        found = scores_difference(compile_bundle(method, model, "bench"), provider)
        differences[f"scores by {provider}"] = (found, 1e-4)
    return told(differences)


def _limit(device: torch.device, limit: Limits) -> str:
    return (
        f"{device.type}: at most {limit.operations / 1e12:,.2f} T operations "
        f"and {limit.bytes / 1e9:,.0f} GB a second"
    )


def _row(device: torch.device, what: str, rows: int, speed: Speed) -> str:
    share = f"{speed.share:.1%} of the limit"
    return f"| {device.type} | {what} | {rows} | {speed.rows:,.0f} a second | {share} |"


def main() -> int:
    if not torch.cuda.is_available():
        print("there is no GPU here, so there is nothing to measure")
        return 0
    torch.set_num_threads(1)
    cuda = torch.device("cuda")
    print(f"{torch.cuda.get_device_name(cuda)}, torch {torch.__version__}; the CPU has one thread")
    print("\n".join(measure(cuda)), flush=True)
    print("\n".join(measure(CPU, GENERATOR_ROWS[:5], TRAINING_ROWS[:2], size=4096)), flush=True)
    has_provider = CUDA_PROVIDER in onnxruntime.get_available_providers()
    if not has_provider:
        print(f"this onnxruntime has no {CUDA_PROVIDER}: its scores are not compared")
    lines, holds = parity(cuda, CUDA_PROVIDER if has_provider else None)
    print("\n".join(lines))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
