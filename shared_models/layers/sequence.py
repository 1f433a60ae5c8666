"""Cutting windows out of histories, and reading sequences at their newest item."""

# Shapes: B rows, H history, T events in the window, D width.

import torch
from torch import Tensor

from shared_models.contract.events import PAD


def cut_windows(history_BH: Tensor, length: int, age_B: Tensor | int = 0) -> Tensor:
    """The ``length`` items that were newest ``age`` events ago, right-padded.

    Args:
        history_BH: int64, newest last, left-padded with `PAD`.
        length: T.
        age_B: int64 events to step back from the newest, for each row or for all.

    Returns:
        int64 (B, T), oldest first.
    """
    rows, width = history_BH.shape
    ages_B1 = torch.as_tensor(age_B, device=history_BH.device).expand(rows)[:, None]
    present_B1 = (history_BH != PAD).sum(1, keepdim=True)
    count_B1 = (present_B1 - ages_B1).clamp(0, length)
    column_1T = torch.arange(length, device=history_BH.device)[None]
    index_BT = width - ages_B1 - count_B1 + column_1T
    items_BT = history_BH.gather(1, index_BT.clamp(0, width - 1))
    return torch.where(column_1T < count_B1, items_BT, PAD)


def newest_windows(event_ids_BG: Tensor, length: int) -> Tensor:
    """The newest ``length`` items of right-padded windows, right-padded again: int64 (B, T)."""
    column_1T = torch.arange(length, device=event_ids_BG.device)[None]
    start_B1 = (lengths(event_ids_BG)[:, None] - length).clamp(min=0)
    index_BT = (start_B1 + column_1T).clamp(max=event_ids_BG.shape[1] - 1)
    known_BT = start_B1 + column_1T < lengths(event_ids_BG)[:, None]
    return event_ids_BG.gather(1, index_BT) * known_BT


def mean_known(states_BTD: Tensor, event_ids_BT: Tensor) -> Tensor:
    """The mean state over each window's items, zeros for an empty window: (B, D)."""
    known_BT1 = (event_ids_BT != PAD)[..., None].to(states_BTD.dtype)
    mean_BD: Tensor = (states_BTD * known_BT1).sum(1) / known_BT1.sum(1).clamp(min=1)
    return mean_BD


def lengths(event_ids_BT: Tensor) -> Tensor:
    """Number of items in each right-padded window: int64 (B,)."""
    return (event_ids_BT != PAD).sum(1)


def newest(states_BTD: Tensor, event_ids_BT: Tensor) -> Tensor:
    """The state at each window's newest item, zeros for an empty window: (B, D)."""
    count_B = lengths(event_ids_BT)
    index_B11 = (count_B - 1).clamp(min=0)[:, None, None]
    newest_BD = states_BTD.gather(1, index_B11.expand(-1, 1, states_BTD.shape[-1])).squeeze(1)
    return newest_BD * (count_B > 0)[:, None]


def recency(event_ids_BT: Tensor, longest: int) -> Tensor:
    """Events since each position, 0 at the newest item; int64 (B, T), at most ``longest`` - 1.

    Counting back from the newest makes a position's meaning independent of padding and of how
    much history there is.
    """
    column_1T = torch.arange(event_ids_BT.shape[1], device=event_ids_BT.device)[None]
    return (lengths(event_ids_BT)[:, None] - 1 - column_1T).clamp(0, longest - 1)


def order(event_ids_BT: Tensor, longest: int) -> Tensor:
    """Events before each position, 0 at the oldest item; int64 (B, T), at most ``longest`` - 1.

    A position means the same however much comes after it, so all of them can be trained at once.
    """
    column_1T = torch.arange(event_ids_BT.shape[1], device=event_ids_BT.device)[None]
    return column_1T.clamp(max=longest - 1).expand_as(event_ids_BT)
