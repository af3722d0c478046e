"""The embeddings of a run in two dimensions: as they are, or by t-SNE of a random draw."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import frozen

from openset_core.report.data import Integers, RunData, TestSplit
from openset_core.report.figure_cache import keep, kept

MOST_POINTS = 2000
SEED = 0
PERPLEXITY = 30.0
INPUT_DIMENSIONS = 50
"""Wider embeddings are reduced by PCA first, as van der Maaten and Hinton 2008 do (30 there)."""

LEAST_POINTS = 5
MOST_LANDMARKS = 100
"""More landmarks than this do not join a t-SNE, where they would crowd out the samples."""

KEPT_AS = "map"

Points = npt.NDArray[np.float32]


@frozen(kw_only=True, eq=False)
class MappedSplit:
    """Some samples of one split of the test on the map."""

    split: TestSplit
    rows: Integers  # which of its samples, ascending, int64 [n]
    points: Points  # where they lie, float32 [n, 2]


@frozen(kw_only=True, eq=False)
class EmbeddingMap:
    """Known and unknown test samples in two dimensions."""

    known: MappedSplit
    unknown: tuple[MappedSplit, ...]
    dimensions: int  # E, of the embedding itself
    landmarks: Points  # the loss's own points on the map, float32 [P, 2]; empty without
    landmark_labels: Integers  # class of each, int64 [P]
    landmark_name: str  # what the method calls one of them

    @property
    def exact(self) -> bool:
        """Whether the map is the embedding itself, not a reduction of it."""
        return self.dimensions <= 2

    @property
    def title(self) -> str:
        """What kind of map it is."""
        return "The embedding itself" if self.exact else "t-SNE"

    @property
    def whole(self) -> bool:
        """Whether all samples are on the map."""
        return all(len(each.rows) == len(each.split) for each in (self.known, *self.unknown))

    @property
    def count(self) -> str:
        """How many samples are on the map."""
        unknown = sum(len(each.rows) for each in self.unknown)
        return f"{len(self.known.rows):,} known" + (f" and {unknown:,} unknown" if unknown else "")


def map_of(run: RunData) -> EmbeddingMap | None:
    """The map of a run, None without features or where embeddings tell nothing apart; what was
    slow to get is kept in the run folder."""
    if run.known is None or run.store is None:
        return None
    splits = (run.known, *run.unknown)
    drawn = [np.sort(r) for r in drawn_rows([len(s) for s in splits], MOST_POINTS, SEED)]
    vectors = [run.embedding(split, rows) for split, rows in zip(splits, drawn, strict=True)]
    finite = [np.isfinite(each).all(axis=1) for each in vectors]
    vectors = [each[good] for each, good in zip(vectors, finite, strict=True)]
    drawn = [rows[good] for rows, good in zip(drawn, finite, strict=True)]
    dimensions = vectors[0].shape[1]
    points, labels, name = _landmarks(run, dimensions)
    joint = np.concatenate([*vectors, points])
    if len(joint) - len(points) < LEAST_POINTS or not np.ptp(joint, axis=0).any():
        return None
    if dimensions > 2:
        placed = _reduced(run, joint, len(points))
    else:
        # One dimension becomes a line.
        placed = np.pad(joint, ((0, 0), (0, 2 - dimensions))).astype(np.float32)
    *pieces, landmarks = np.split(placed, np.cumsum([len(rows) for rows in drawn]))
    known, *unknown = (
        MappedSplit(split=split, rows=rows, points=piece)
        for split, rows, piece in zip(splits, drawn, pieces, strict=True)
    )
    return EmbeddingMap(
        known=known,
        unknown=tuple(unknown),
        dimensions=dimensions,
        landmarks=landmarks,
        landmark_labels=labels,
        landmark_name=name,
    )


def drawn_rows(sizes: list[int], most: int, seed: int) -> list[Integers]:
    """A random draw of at most so many rows from splits of these sizes; the first gets half."""
    if sum(sizes) <= most:
        return [np.arange(size, dtype=np.int64) for size in sizes]
    rest = sum(sizes[1:])
    first = min(sizes[0], max(most // 2, most - rest))
    shares = [first] + [min(size, (most - first) * size // max(rest, 1)) for size in sizes[1:]]
    random = np.random.default_rng(seed)
    return [
        random.choice(size, share, replace=False).astype(np.int64)
        for size, share in zip(sizes, shares, strict=True)
    ]


def _landmarks(run: RunData, dimensions: int) -> tuple[Points, Integers, str]:
    """The loss's own points in the space of the embedding, where it keeps some."""
    stored = None if run.store is None else run.store.landmarks
    if stored is None or (dimensions > 2 and len(stored.points) > MOST_LANDMARKS):
        return np.empty((0, dimensions), np.float32), np.empty(0, np.int64), ""
    good = np.isfinite(stored.points).all(axis=1)
    return stored.points[good].astype(np.float32), stored.labels[good], stored.name


def _reduced(run: RunData, joint: Points, landmarks: int) -> Points:
    # The cache belongs to the run's features; beside them the map depends on these numbers alone.
    facts = np.array([len(joint), landmarks, MOST_POINTS, SEED, PERPLEXITY, INPUT_DIMENSIONS])
    cached = kept(run, KEPT_AS)
    if cached is not None and np.array_equal(cached["facts"], facts):
        before: Points = cached["points"]
        return before
    placed = tsne(joint, SEED)
    keep(run, KEPT_AS, {"facts": facts, "points": placed})
    return placed


def tsne(vectors: Points, seed: int, perplexity: float = PERPLEXITY) -> Points:
    """scikit-learn's t-SNE of vectors [n, E], E > 2, to float32 [n, 2], the same each time."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    count, width = vectors.shape
    with threadpool_limits(1):  # threads add up in another order each time
        if min(count, width) > INPUT_DIMENSIONS:
            reducing = PCA(INPUT_DIMENSIONS, random_state=seed)
            vectors = reducing.fit_transform(vectors.astype(np.float64))
        placed = TSNE(
            2,
            perplexity=min(perplexity, (count - 1) / 3),
            init="pca",
            learning_rate="auto",
            random_state=seed,
            n_jobs=1,
        ).fit_transform(np.ascontiguousarray(vectors, dtype=np.float32))
    return np.asarray(placed, dtype=np.float32)
