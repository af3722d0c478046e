"""Distance to the k-th nearest training embedding (Sun et al., ICML 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from openset_core import FeatureSource, FeatureTable, UnknownScorer
from openset_plugins.feature_scorers import KnnOptions
from openset_plugins.feature_scorers.statistics import Floats, arrays_of, block_rows, embeddings

if TYPE_CHECKING:
    from torch import nn

_SEED = 0  # of the draw that `fraction` asks for
# Neighbours on either side of the k-th whose distances are computed again exactly.
_SPARE = 8
# Below this many samples in a search scikit-learn's threads have too little to do.
_LEAST_ROWS = 256


class NearestNeighbour(UnknownScorer):
    """|z - z_(k)|, where z_(k) is the k-th nearest training embedding.

    The search runs on embeddings in float32 (50,000 x 128: 26 MB), by scikit-learn's blocked
    products. Their |a|^2 - 2 a.b + |b|^2 cancels for near-duplicates, so the distances of the
    neighbours around rank k are then taken from their differences in float64 and ranked anew. The
    score is exact unless more neighbours than that share rank k within float32 rounding, 1e-7 of
    the embedding's length; it then errs by that much.

    The training embeddings are kept in float32, as the feature store has them. With `fraction`
    below 1 the order of the training samples decides which ones are drawn.

    The paper's code adds 1e-10 to the length it divides by; here only the zero vector, which has
    no direction, is treated apart. That code's score is the squared distance, the same order.

    Args:
        config: options.
    """

    reads = ("embedding",)

    def __init__(self, config: KnnOptions) -> None:
        self.config = config
        self._train = np.zeros((0, 0), dtype=np.float32)
        self._scale = np.zeros(0)
        self._search: Any = None

    def fit(self, source: FeatureSource) -> None:
        """Keep the training embeddings, or a fixed draw of them."""
        drawn = np.arange(source.rows)
        if self.config.fraction < 1:
            size = max(1, round(self.config.fraction * source.rows))
            drawn = np.random.default_rng(_SEED).choice(source.rows, size, replace=False)
            drawn.sort()
        kept: npt.NDArray[np.float32] | None = None
        seen = 0
        for table in source.chunks("embedding"):
            rows = embeddings(table, None if kept is None else kept.shape[1])
            if kept is None:
                kept = np.empty((len(drawn), rows.shape[1]), dtype=np.float32)
            first, last = np.searchsorted(drawn, (seen, seen + len(rows)))
            with np.errstate(over="ignore"):
                kept[first:last] = rows[drawn[first:last] - seen]
            seen += len(rows)
        if kept is None or not len(kept):
            raise ValueError("there is no training sample to fit the scorer on")
        if seen != source.rows:
            raise ValueError(f"the source promised {source.rows} training samples and gave {seen}")
        if not np.isfinite(kept).all():
            raise ValueError("embedding holds values beyond the range of float32")
        self._keep(kept)

    def _keep(self, train: npt.NDArray[np.float32]) -> None:
        """Take training embeddings [m, E] and prepare the search."""
        self._train = train
        size = block_rows(train.shape[1])
        blocks = [slice(start, start + size) for start in range(0, len(train), size)]
        self._scale = np.concatenate([self._scales(train[block]) for block in blocks])
        searched = train
        if self.config.normalize:
            searched = np.empty_like(train)
            for block in blocks:
                searched[block] = self._rows(block)
        # Timed against float32 products in NumPy with a selection of our own, 10,000 queries in
        # 50,000 x 128, k=50: 10 s against 15 s on two busy cores, where this shares all work
        # among threads, and 6 s against 4 s of processor time on one.
        self._search = NearestNeighbors(algorithm="brute", metric="euclidean").fit(searched)

    def _scales(self, rows: npt.NDArray[Any]) -> Floats:
        """What each row is multiplied with, [n]; 1 for the zero vector."""
        if not self.config.normalize:
            return np.ones(len(rows))
        lengths = np.sqrt(np.square(rows.astype(np.float64)).sum(axis=1))
        return 1.0 / np.where(lengths > 0, lengths, 1.0)

    def _rows(self, which: Any) -> Floats:
        """Training embeddings as they are compared, float64."""
        rows: Floats = self._train[which].astype(np.float64) * self._scale[which][..., None]
        return rows

    def score(self, table: FeatureTable) -> Floats:
        """Distance to the k-th nearest of the kept training embeddings, float64 [n]."""
        if self._search is None:
            raise RuntimeError("knn scores only after fit or restore")
        rows = embeddings(table, self._train.shape[1])
        rows *= self._scales(rows)[:, None]
        k = min(self.config.k, len(self._train))
        reach = min(k + _SPARE, len(self._train))
        # Bounds what the search returns: two numbers a neighbour.
        size = max(_LEAST_ROWS, block_rows(reach))
        scores = np.empty(len(rows))
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            searched = part.astype(np.float32)
            nearest = self._search.kneighbors(searched, reach, return_distance=False)
            first = max(0, k - 1 - _SPARE)
            scores[start : start + size] = self._ranked(part, nearest[:, first:], k - 1 - first)
        return scores

    def _ranked(self, rows: Floats, candidates: npt.NDArray[np.intp], rank: int) -> Floats:
        """The distance of given rank, from 0, among candidates [n, c]; exact, float64 [n]."""
        found = np.empty(len(rows))
        size = block_rows(rows.shape[1] * candidates.shape[1])
        for start in range(0, len(rows), size):
            block = slice(start, start + size)
            apart = self._rows(candidates[block])
            apart -= rows[block, None]
            squares = np.square(apart, out=apart).sum(axis=2)
            found[block] = np.partition(squares, rank, axis=1)[:, rank]
        return np.sqrt(found)

    def torch_module(self) -> nn.Module:
        """The same by torch, for export, with the training embeddings inside."""
        from openset_plugins.feature_scorers.torch_forms import NearestNeighbourModule

        k = min(self.config.k, len(self._train))
        return NearestNeighbourModule(self._rows(slice(None)), k, self.config.normalize)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """`embedding`, the kept training embeddings as they came, float32 [m, E]."""
        return {"embedding": self._train}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take back what `state` returned."""
        train = arrays_of(state, "knn", embedding=2)["embedding"]
        self._keep(np.ascontiguousarray(train, dtype=np.float32))
