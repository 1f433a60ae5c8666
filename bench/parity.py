"""Whether another device gives the CPU's numbers: losses, overlays, and onnxruntime's scores."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.compute import training, uplinks
from shared_models.contract.bundle import Bundle
from shared_models.method import Uplinks
from shared_models.runtime import load_session

CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
Values = np.ndarray[Any, Any]


def training_difference(method: Any, device: torch.device, steps: int, rows: int = 256) -> float:
    """Largest relative difference of a loss among the first ``steps``; without dropout."""
    losses = {}
    for where in (torch.device("cpu"), device):
        step, _ = training(method, where, rows)
        losses[where] = np.array([float(step()) for _ in range(steps)])
    return relative(losses[device], losses[torch.device("cpu")])


def overlay_difference(method: Any, model: nn.Module, device: torch.device, rows: int) -> float:
    """Largest difference of a slot's values, relative to the largest of that slot."""
    uplinks_BG = uplinks(method, rows)
    expected = method.personalize(model.cpu(), Uplinks(uplinks_BG)).slots
    found = method.personalize(model.to(device), Uplinks(uplinks_BG)).slots
    return max(relative(found[name], values) for name, values in expected.items())


def scores_difference(bundle: Bundle, provider: str) -> float:
    """Largest difference of a score from the CPU provider's, relative where above 1.

    Raises:
        BadSetting: this onnxruntime has no such provider.
    """
    vector = bundle.test_vector
    feeds = {name: values for name, values in vector.items() if name != "scores"}
    expected, found = (
        load_session(bundle.graph("scorer"), [name]).run("scores", feeds)
        for name in (CPU_PROVIDER, provider)
    )
    return float(np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected))))


def relative(found: Values, expected: Values) -> float:
    """Largest difference over the largest expected value."""
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def told(differences: Mapping[str, tuple[float, float]]) -> tuple[list[str], bool]:
    """A line for each (difference, tolerance), and whether all hold."""
    lines = [
        f"{name}: {found:.1e} (tolerance {bound:g}){'' if found <= bound else ' SHORT'}"
        for name, (found, bound) in differences.items()
    ]
    return lines, all(found <= bound for found, bound in differences.values())
