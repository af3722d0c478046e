"""From a protocol and a trial to index lists: training, validation, known test, unknown test."""

from __future__ import annotations

import hashlib

import attrs
import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


@attrs.frozen(kw_only=True)
class Split:
    index: Indices = attrs.field(eq=False)  # rows of the data set, int64 [n], ascending
    label: Indices = attrs.field(eq=False)
    """int64 [n]; 0..K-1 for known samples, the data set's own class for unknown."""

    def __len__(self) -> int:
        return len(self.index)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for array in (self.index, self.label):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def stratified(labels: Indices, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Split rows, ascending, so that each class gives `fraction` of its samples to the second side.

    Every class keeps at least one sample on the first side.
    """
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(round(fraction * len(rows)), len(rows) - 1)
        chosen[rng.permutation(rows)[:count]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def known_rows(labels: Indices, known: tuple[int, ...]) -> Split:
    """The rows of the known classes, relabelled by position in `known`."""
    lookup = {original: position for position, original in enumerate(known)}
    rows = np.flatnonzero(np.isin(labels, known))
    relabelled = np.array([lookup[int(label)] for label in labels[rows]], dtype=np.int64)
    return Split(index=rows, label=relabelled)


def class_rows(labels: Indices, classes: tuple[int, ...]) -> Split:
    """The rows of some classes, with the data set's own labels."""
    rows = np.flatnonzero(np.isin(labels, classes))
    return Split(index=rows, label=labels[rows])


def take(split: Split, rows: Indices) -> Split:
    return Split(index=split.index[rows], label=split.label[rows])
