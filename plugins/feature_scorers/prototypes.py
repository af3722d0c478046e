"""Distance to the nearest class mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openset_core import FeatureSource
from openset_plugins.feature_scorers import PrototypeDistanceOptions
from openset_plugins.feature_scorers.statistics import (
    EmbeddingScorer,
    class_means,
    directions,
    squared_distances,
)


class PrototypeDistance(EmbeddingScorer):
    """min_c d(z, mu_c), where mu_c is the mean of class c's training embeddings.

    For losses that learn prototypes the mean stands in for the prototype, which the feature store
    does not hold. The cosine distance is 1 where either vector is zero. The state holds `means`,
    float64 [C, E], of the classes that have samples.

    """

    name = "prototype-distance"
    axes = {"means": 2}  # noqa: RUF012

    def __init__(self, config: PrototypeDistanceOptions) -> None:
        super().__init__()
        self.metric = config.metric

    def fit(self, source: FeatureSource) -> None:
        means, counts = class_means(source)
        self._state = {"means": means[counts > 0]}

    def formula(self, xp: Any, table: Mapping[str, Any], learned: Mapping[str, Any]) -> Any:
        rows, means = table["embedding"], learned["means"]
        if self.metric != "cosine":
            nearest = xp.amin(squared_distances(xp, rows, means), axis=1)
            return xp.sqrt(nearest) if self.metric == "euclidean" else nearest
        rows, lengths = directions(xp, rows)
        means, sizes = directions(xp, means)
        # |a - b|^2 / 2 = 1 - cos for unit vectors, without the cancellation for close ones.
        distances = squared_distances(xp, rows, means) / 2
        undirected = (lengths == 0) | (sizes[:, 0] == 0)
        return xp.amin(xp.where(undirected, 1.0, distances), axis=1)
