"""Sample weights that take correlations out of the training nodes, linear and not.

Where two things go together in the cloud's graph and not on devices, a network that leans on one
for the other fails there. Weights ``w >= 0`` with mean 1 minimise
``sum_{a<b} ||Cov_w(phi(z_a), phi(z_b))||_F^2`` over dimensions a, b of a representation z, with
random Fourier features phi (Rahimi and Recht, NIPS 2007), as in OOD-GNN (arXiv:2112.03806) and
StableGNN (arXiv:2111.10657). Only training knows them: what devices run is the same.
"""

# Shapes: M nodes, D dimensions, Q functions of each.

import math

import torch
from torch import Tensor

from shared_models.methods.ggcn.config import Decorrelation

_TINY = 1e-6


def fourier_features(values_MD: Tensor, count: int, drawn: torch.Generator) -> Tensor:
    """``sqrt(2) cos(w z + b)`` (M, D, Q) of standardised values, w and b drawn for each."""
    centred_MD = (values_MD - values_MD.mean(0)) / (values_MD.std(0, correction=0) + _TINY)
    shape, device = (values_MD.shape[1], count), values_MD.device
    rates_DQ = torch.randn(shape, generator=drawn, device=device)
    phases_DQ = 2 * math.pi * torch.rand(shape, generator=drawn, device=device)
    return math.sqrt(2) * torch.cos(centred_MD[:, :, None] * rates_DQ + phases_DQ)


def covariance(weights_M: Tensor, features_MDQ: Tensor) -> Tensor:
    """``sum_{a<b} ||Cov_w||_F^2`` over pairs of dimensions; what one says of itself is left out."""
    nodes, dimensions, count = features_MDQ.shape
    flat = features_MDQ.reshape(nodes, dimensions * count)
    weighed = weights_M[:, None] / nodes
    centred = flat - (weighed * flat).sum(0)
    blocks = ((weighed * centred).T @ centred).reshape(dimensions, count, dimensions, count)
    squares_DD = blocks.square().sum((1, 3))
    return (squares_DD.sum() - squares_DD.diagonal().sum()) / 2


def decorrelated(
    values_MD: Tensor,
    before_M: Tensor,
    groups_M: Tensor,
    how: Decorrelation,
    drawn: torch.Generator,
) -> Tensor:
    """Weights (M,) a few steps of Adam further, 1 in the mean of each group and so in all.

    Args:
        values_MD: the representation of the nodes that count; nothing is learned about it.
        before_M: where to begin, at least 0; all 1 at first.
        groups_M: int64, from 0 on; nodes of one class, that none of the classes is weighed away.
        how: what is drawn in a step, and how far it goes.
        drawn: chance.
    """
    with torch.enable_grad():
        # Squares stay above 0, and dividing by their mean keeps it at 1.
        roots_M = before_M.sqrt().requires_grad_()
        optimiser = torch.optim.Adam([roots_M], lr=how.rate)
        for _ in range(how.steps):
            order = torch.randperm(values_MD.shape[1], generator=drawn, device=drawn.device)
            chosen_MD = values_MD[:, order[: how.dimensions]]
            weights_M = _mean_one(roots_M, groups_M)
            apart = (weights_M - 1).square().mean()
            features_MDQ = fourier_features(chosen_MD, how.functions, drawn)
            loss = covariance(weights_M, features_MDQ) + how.pull * apart
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return _mean_one(roots_M.detach(), groups_M)


def _mean_one(roots_M: Tensor, groups_M: Tensor) -> Tensor:
    squares_M = roots_M.square()
    nodes_G = groups_M.bincount()
    sums_G = squares_M.new_zeros(len(nodes_G)).index_add(0, groups_M, squares_M)
    return squares_M * (nodes_G / sums_G.clamp(min=_TINY))[groups_M]
