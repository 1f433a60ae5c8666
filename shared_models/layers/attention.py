"""Attention in plain matrix products, so that it exports with every size dynamic."""

# Shapes: B rows, Q queries, T keys, N heads, D width, K width of a head.

import torch
from torch import Tensor, nn
from typing_extensions import override


class AttentionBlock(nn.Module):
    """One transformer block, norms after the residual sums (Vaswani et al., arXiv:1706.03762)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
        )
        self.norm_attention = nn.LayerNorm(width)
        self.norm_feed = nn.LayerNorm(width)

    @override
    def forward(self, queries_BQD: Tensor, keys_BTD: Tensor, visible_BQT: Tensor) -> Tensor:
        """States (B, Q, D); query q reads the keys where ``visible`` is true, none is allowed."""
        query_BNQK, key_BNTK, value_BNTK = (
            self._split(layer(x))
            for layer, x in (
                (self.query, queries_BQD),
                (self.key, keys_BTD),
                (self.value, keys_BTD),
            )
        )
        logits_BNQT = query_BNQK @ key_BNTK.transpose(-1, -2) * query_BNQK.shape[-1] ** -0.5
        weights_BNQT = masked_softmax(logits_BNQT, visible_BQT[:, None])
        mixed_BQD = (weights_BNQT @ value_BNTK).transpose(1, 2).flatten(2)
        x_BQD = self.norm_attention(queries_BQD + self.out(mixed_BQD))
        states_BQD: Tensor = self.norm_feed(x_BQD + self.feed(x_BQD))
        return states_BQD

    def _split(self, x_BTD: Tensor) -> Tensor:
        rows, length, width = x_BTD.shape
        return x_BTD.reshape(rows, length, self.heads, width // self.heads).transpose(1, 2)


def masked_softmax(logits: Tensor, visible: Tensor) -> Tensor:
    """Softmax over the last axis where ``visible``; all zeros where nothing is visible."""
    # A finite floor, not -inf: a row without visible keys would be 0/0.
    weights = torch.softmax(logits.masked_fill(~visible, -1e9), dim=-1)
    return weights * visible


def causal(length: int, device: torch.device) -> Tensor:
    """True where key t may be read by query q, t <= q: (1, T, T)."""
    column_T = torch.arange(length, device=device)
    return (column_T[None, :] <= column_T[:, None])[None]
