"""Distances that several losses share."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_squared_distance(vectors: Tensor, points: Tensor) -> Tensor:
    """Squared distance over the dimension (ARPL's d_e, Eq. 6), never negative, float32 [B, K]."""
    squares = vectors.float().square().sum(dim=1, keepdim=True) + points.float().square().sum(dim=1)
    return (squares - 2.0 * dot_products(vectors, points)).clamp_min(0.0) / vectors.shape[1]


def dot_products(vectors: Tensor, points: Tensor) -> Tensor:
    """Dot products [B, K] in float32, also under mixed precision.

    16 bits are too coarse for the difference of squares that this becomes a part of.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        return vectors.float() @ points.float().T
