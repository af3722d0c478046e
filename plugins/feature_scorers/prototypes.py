"""Distance to the nearest class mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from openset_core import FeatureSource, FeatureTable, UnknownScorer
from openset_plugins.feature_scorers import PrototypeDistanceOptions
from openset_plugins.feature_scorers.statistics import (
    Floats,
    arrays_of,
    block_rows,
    class_means,
    embeddings,
)

if TYPE_CHECKING:
    from torch import nn


class PrototypeDistance(UnknownScorer):
    """min_c d(z, mu_c), where mu_c is the mean of class c's training embeddings.

    For losses that learn prototypes the mean stands in for the prototype, which the feature store
    does not hold. The cosine distance is 1 where either vector is zero.

    Args:
        config: options.
    """

    reads = ("embedding", "label")

    def __init__(self, config: PrototypeDistanceOptions) -> None:
        self.metric = config.metric
        self._means: Floats | None = None

    def fit(self, source: FeatureSource) -> None:
        """Means of the classes that have training samples."""
        means, counts = class_means(source)
        self._means = means[counts > 0]

    def score(self, table: FeatureTable) -> Floats:
        """Distance to the nearest class mean, float64 [n]."""
        means = self._fitted
        rows = embeddings(table, means.shape[1])
        scores = np.empty(len(rows))
        size = block_rows(max(means.shape))
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            scores[start : start + size] = self._distances(part, means).min(axis=1)
        return scores

    def _distances(self, rows: Floats, means: Floats) -> Floats:
        """Distances [n, C]."""
        if self.metric != "cosine":
            name = "euclidean" if self.metric == "euclidean" else "sqeuclidean"
            apart: Floats = cdist(rows, means, name)
            return apart
        rows, zero_rows = _directions(rows)
        means, zero_means = _directions(means)
        # |a - b|^2 / 2 = 1 - cos for unit vectors, without the cancellation for close ones.
        distances: Floats = cdist(rows, means, "sqeuclidean") / 2
        distances[zero_rows] = 1.0
        distances[:, zero_means] = 1.0
        return distances

    @property
    def _fitted(self) -> Floats:
        if self._means is None:
            raise RuntimeError("prototype-distance scores only after fit or restore")
        return self._means

    def torch_module(self) -> nn.Module:
        """The same by torch, for export."""
        from openset_plugins.feature_scorers.torch_forms import PrototypeDistanceModule

        return PrototypeDistanceModule(self._fitted, self.metric)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """`means`, float64 [C, E], of the classes that have samples."""
        return {"means": self._fitted}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take back what `state` returned."""
        means = arrays_of(state, "prototype-distance", means=2)["means"]
        self._means = np.asarray(means, dtype=np.float64)


def _directions(rows: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Rows divided by their lengths, and which of them are zero and have no direction."""
    lengths = np.sqrt(np.square(rows).sum(axis=1))
    zero = lengths == 0
    return rows / np.where(zero, 1.0, lengths)[:, None], zero
