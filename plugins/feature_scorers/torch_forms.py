"""The scorers over embeddings as torch modules, for export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def _buffer(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float64))


def _squared_distances(rows: Tensor, points: Tensor) -> Tensor:
    """[n, C], from differences: |a|^2 - 2 a.b + |b|^2 would cancel."""
    return (rows[:, None, :] - points).square().sum(dim=2)


class NearestNeighbourModule(nn.Module):
    """Distance to the k-th nearest training embedding.

    By |a|^2 - 2 a.b + |b|^2 in float64, whose cancellation leaves 1e-8 of an embedding's length.

    Args:
        train: training embeddings as they are compared, [m, E].
        k: which neighbour counts, 1 to m.
        normalize: whether rows are divided by their length.
    """

    def __init__(self, train: NDArray[Any], k: int, normalize: bool) -> None:
        super().__init__()
        self.k, self.normalize = k, normalize
        self.register_buffer("train_rows", _buffer(train))
        self.register_buffer("squares", _buffer(np.square(train).sum(axis=1)))
        self.train_rows: Tensor
        self.squares: Tensor

    def forward(self, table: Mapping[str, Tensor]) -> Tensor:
        """Scores of a table with `embedding` [n, E], float64 [n]."""
        rows = table["embedding"].double()
        if self.normalize:
            lengths = rows.square().sum(dim=1, keepdim=True).sqrt()
            rows = rows / torch.where(lengths > 0, lengths, 1.0)
        own = rows.square().sum(dim=1, keepdim=True)
        squared = own - 2.0 * rows @ self.train_rows.T + self.squares
        nearest = torch.topk(squared, self.k, dim=1, largest=False).values
        return nearest[:, -1].clamp_min(0.0).sqrt()


class MahalanobisModule(nn.Module):
    """Squared Mahalanobis distance to the nearest class mean.

    Args:
        means: [C, E].
        whitening: [1, E, E] for all classes, or [C, E, E].
    """

    def __init__(self, means: NDArray[Any], whitening: NDArray[Any]) -> None:
        super().__init__()
        self.shared = len(whitening) == 1
        middle = means.mean(axis=0) if self.shared else np.zeros(means.shape[1])
        self.register_buffer("middle", _buffer(middle))
        self.register_buffer("means", _buffer(means))
        self.register_buffer("whitening", _buffer(whitening))
        self.register_buffer("whitened", _buffer((means - middle) @ whitening[0]))
        self.middle: Tensor
        self.means: Tensor
        self.whitening: Tensor
        self.whitened: Tensor

    def forward(self, table: Mapping[str, Tensor]) -> Tensor:
        """Scores of a table with `embedding` [n, E], float64 [n]."""
        rows = table["embedding"].double()
        if self.shared:
            distances = _squared_distances((rows - self.middle) @ self.whitening[0], self.whitened)
        else:
            apart = rows[None] - self.means[:, None]  # [C, n, E]
            distances = torch.bmm(apart, self.whitening).square().sum(dim=2).T
        return distances.min(dim=1).values


class PrototypeDistanceModule(nn.Module):
    """Distance to the nearest class mean.

    Args:
        means: [C, E].
        metric: `"euclidean"`, `"squared"` or `"cosine"`.
    """

    def __init__(self, means: NDArray[Any], metric: str) -> None:
        super().__init__()
        self.metric = metric
        lengths = np.sqrt(np.square(means).sum(axis=1))
        if metric == "cosine":
            means = means / np.where(lengths > 0, lengths, 1.0)[:, None]
        self.register_buffer("means", _buffer(means))
        self.register_buffer("zero", torch.from_numpy(lengths == 0))
        self.means: Tensor
        self.zero: Tensor

    def forward(self, table: Mapping[str, Tensor]) -> Tensor:
        """Scores of a table with `embedding` [n, E], float64 [n]."""
        rows = table["embedding"].double()
        if self.metric != "cosine":
            nearest = _squared_distances(rows, self.means).min(dim=1).values
            return nearest.sqrt() if self.metric == "euclidean" else nearest
        lengths = rows.square().sum(dim=1, keepdim=True).sqrt()
        directions = rows / torch.where(lengths > 0, lengths, 1.0)
        distances = _squared_distances(directions, self.means) / 2
        distances = torch.where((lengths == 0) | self.zero, 1.0, distances)
        return distances.min(dim=1).values
