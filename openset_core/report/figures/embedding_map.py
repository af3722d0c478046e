"""A two-dimensional t-SNE map of the embedding."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from openset_core.errors import FigureError
from openset_core.report.charts.feature_space import (
    Looks,
    class_looks,
    few,
    plane,
    unknown_looks,
)
from openset_core.report.charts.panels import panel_width, panels
from openset_core.report.data import RunData
from openset_core.report.embedding import LEAST_POINTS, drawn_rows, tsne
from openset_core.report.figure_cache import keep, kept
from openset_core.report.figures import EmbeddingMap
from openset_core.report.figures.drawing import FigureResult, FigureRuns, by_class, known_split


def draw(shape: EmbeddingMap, runs: FigureRuns) -> FigureResult:
    """Draw a map for each run."""
    labelled = runs.runs
    classes = list(dict.fromkeys(name for _label, run in labelled for name in run.class_names))
    unknown = unknown_looks(["unknown"] if shape.unknown else [])
    looks = Looks(groups=class_looks(classes) | unknown, legend=few(classes) + list(unknown))
    rows: list[tuple[Any, ...]] = []
    charts = []
    for label, run in labelled:
        points, labels = mapped(run, shape)
        names = [*run.class_names, "unknown"]
        rows += [
            (label, names[each], float(x), float(y))
            for each, (x, y) in zip(labels, points, strict=True)
        ]
        clouds = by_class(run, points[labels >= 0], labels[labels >= 0])
        if shape.unknown:
            clouds.insert(0, ("unknown", points[labels < 0]))
        side = panel_width(len(labelled), 2, most=280)
        titles = ("t-SNE 1", "t-SNE 2")
        charts.append((label, plane(clouds, looks, side=side, titles=titles, numbers=False)))
    return FigureResult(
        chart=panels(
            charts,
            f"t-SNE maps of {', '.join(label for label, _ in labelled)}, coloured by known class.",
            columns=2,
        ),
        caption=(
            f"t-SNE maps (perplexity {shape.perplexity:g}, seed {shape.seed}) of the embeddings of "
            f"at most {shape.samples:,} test samples. Distances between far groups mean nothing."
        ),
        columns=("run", "class", "t-SNE 1", "t-SNE 2"),
        rows=rows,
    )


def mapped(
    run: RunData, shape: EmbeddingMap
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Map of some test samples, float32 [n, 2], and their classes, int64 [n], -1 for unknown.

    Raises:
        FigureError: the run has no features, or they tell nothing apart.
    """
    known = known_split(run)
    splits = [known, *(run.unknown if shape.unknown else ())]
    sizes = [len(split) for split in splits]
    rows = [np.sort(each) for each in drawn_rows(sizes, shape.samples, shape.seed)]
    labels = [known.label[rows[0]], *(np.full(len(each), -1) for each in rows[1:])]
    vectors = np.concatenate([run.embedding(s, r) for s, r in zip(splits, rows, strict=True)])
    few = len(vectors) < LEAST_POINTS or vectors.shape[1] < 2
    if few or not np.ptp(vectors, axis=0).any():
        raise FigureError(f"{run.folder.path} has too few different embeddings for a map")
    facts = repr((shape.unknown, shape.samples, shape.seed, shape.perplexity))
    name = f"tsne-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
    arrays = kept(run, name)
    if arrays is None:
        arrays = {"points": tsne(vectors, shape.seed, shape.perplexity)}
        keep(run, name, arrays)
    return arrays["points"], np.concatenate(labels).astype(np.int64)
