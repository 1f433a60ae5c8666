"""Where torch computes."""

import torch

from shared_models.contract.errors import BadSetting


def choose_device(wanted: str, setting: str = "train.device") -> torch.device:
    """``auto`` is the GPU where there is one.

    Args:
        wanted: ``auto``, ``cpu`` or ``cuda``.
        setting: who said so, as users know it.

    Raises:
        BadSetting: it is a GPU, and torch finds none.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if wanted == "cuda":
        raise BadSetting(setting, "torch finds no GPU here: take cpu")
    return torch.device("cpu")
