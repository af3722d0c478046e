"""What the scorers over embeddings share: checked rows, blocks, distances, class means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from openset_core import FeatureSource, FeatureTable, FormulaScorer

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

# Elements of a block of rows in float64, 8 MB: what is held besides inputs and results.
_BLOCK_ELEMENTS = 2**20


def block_rows(width: int) -> int:
    return max(64, _BLOCK_ELEMENTS // max(1, width))


def embeddings(table: FeatureTable, width: int | None = None) -> Floats:
    """The embeddings of some rows, float64 [n, E], a copy of its own."""
    rows = np.array(table["embedding"], dtype=np.float64)
    if rows.ndim != 2 or width not in (None, rows.shape[1]):
        expected = "[n, E]" if width is None else f"[n, {width}]"
        raise ValueError(f"embedding must have shape {expected}, got {list(rows.shape)}")
    if not np.isfinite(rows).all():
        raise ValueError("embedding holds NaN or infinite values; the network has diverged")
    return rows


class EmbeddingScorer(FormulaScorer):
    """Base: a formula over checked embeddings, with arrays that were learned."""

    reads: tuple[str, ...] = ("embedding", "label")
    name: str  # for messages
    axes: Mapping[str, int]  # the number of axes of each array of the state

    def __init__(self) -> None:
        self._state: dict[str, npt.NDArray[Any]] = {}

    def inputs(self, table: FeatureTable) -> dict[str, Floats]:
        if not self._state:
            raise RuntimeError(f"{self.name} scores only after fit or restore")
        width = self._state[next(iter(self.axes))].shape[1]
        return {"embedding": embeddings(table, width)}

    def state(self) -> dict[str, npt.NDArray[Any]]:
        return dict(self._state)

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        for name, axes in self.axes.items():
            if name not in state or np.ndim(state[name]) != axes:
                raise ValueError(f"the state of scorer {self.name} lacks {name!r} with {axes} axes")
        self._state = {name: np.asarray(state[name]) for name in self.axes}


def squared_distances(xp: Any, rows: Any, points: Any) -> Any:
    """Squared Euclidean distances [n, C], from differences: |a|^2 - 2 a.b + |b|^2 would cancel."""
    if xp is np:
        return cdist(rows, points, "sqeuclidean")  # without an array [n, C, E]
    return xp.sum(xp.square(rows[:, None, :] - points), axis=2)


def directions(xp: Any, rows: Any) -> tuple[Any, Any]:
    """Rows [..., E] divided by their lengths, and the lengths [..., 1]; zero rows stay."""
    lengths = xp.sqrt(xp.sum(xp.square(rows), axis=-1, keepdims=True))
    return rows / xp.where(lengths > 0, lengths, 1.0), lengths


def labelled_blocks(source: FeatureSource) -> Iterator[tuple[Floats, Labels]]:
    """Embeddings float64 [b, E] and labels [b] in blocks of one size, whatever the chunks are.

    Sums over blocks are thereby the same to the last bit however the source cuts its rows.

    """
    width: int | None = None
    held: list[tuple[Floats, Labels]] = []
    count = total = 0
    for table in source.chunks("embedding", "label"):
        rows, labels = embeddings(table, width), np.asarray(table["label"], dtype=np.int64)
        if len(labels) and not (labels.min() >= 0 and labels.max() < source.num_classes):
            raise ValueError(
                f"labels must be within 0..{source.num_classes - 1}, got "
                f"{labels.min()}..{labels.max()}"
            )
        width = rows.shape[1]
        size = block_rows(width)
        held.append((rows, labels))
        count += len(rows)
        total += len(rows)
        if count >= size:
            rows, labels = (np.concatenate(arrays) for arrays in zip(*held, strict=True))
            whole = count - count % size
            for start in range(0, whole, size):
                yield rows[start : start + size], labels[start : start + size]
            held, count = [(rows[whole:].copy(), labels[whole:])], count - whole
    if not total:
        raise ValueError("there is no training sample to fit the scorer on")
    if count:
        rows, labels = (np.concatenate(arrays) for arrays in zip(*held, strict=True))
        yield rows, labels


def by_class(rows: Floats, labels: Labels) -> Iterator[tuple[int, Floats]]:
    """Each class that occurs, and its rows."""
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    for label, own in zip(present, np.split(order, starts[1:]), strict=True):
        yield int(label), rows[own]


def class_means(source: FeatureSource) -> tuple[Floats, Labels]:
    """Means float64 [K, E] and numbers [K] of the training samples; zeros for an empty class."""
    origins = sums = np.zeros((0, 0))
    counts = np.zeros(source.num_classes, dtype=np.int64)
    for rows, labels in labelled_blocks(source):
        if not sums.size:
            sums = np.zeros((source.num_classes, rows.shape[1]))
            origins = np.zeros_like(sums)
        for label, own in by_class(rows, labels):
            if counts[label] == 0:
                # Summed are differences to the class's first sample: digits are not lost to a
                # large common offset, and the mean of equal samples is exactly that sample.
                origins[label] = own[0]
            sums[label] += (own - origins[label]).sum(axis=0)
            counts[label] += len(own)
    return origins + sums / np.maximum(counts, 1)[:, None], counts
