"""Where torch computes."""

import torch


def choose_device(wanted: str) -> torch.device:
    """``auto`` is the GPU where there is one."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)
