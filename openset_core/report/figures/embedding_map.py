"""A two-dimensional t-SNE map of the embedding."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from openset_core.errors import FigureError
from openset_core.report.data import RunData
from openset_core.report.embedding import LEAST_POINTS, drawn_rows, tsne
from openset_core.report.figure_cache import keep, kept
from openset_core.report.figures import EmbeddingMap
from openset_core.report.figures.panels import (
    class_colour,
    class_marker,
    cloud,
    grid,
    key,
    legend_below,
    title,
)
from openset_core.report.figures.picture import Numbers, Picture
from openset_core.report.figures.runs import FigureRuns
from openset_core.report.style import UNKNOWN_GREY


def draw(shape: EmbeddingMap, runs: FigureRuns) -> Picture:
    """Draw a map for each run."""
    named = runs.runs
    figure, panels = grid(len(named), height=3.0, most=2)
    numbers: list[tuple[Any, ...]] = []
    for number, ((label, run), axes) in enumerate(zip(named, panels, strict=True)):
        points, labels = mapped(run, shape)
        unknown = labels < 0
        if unknown.any():
            cloud(axes[0], points[unknown], UNKNOWN_GREY, "x", size=6.0, alpha=0.5)
        for each in np.unique(labels[~unknown]):
            mine = points[labels == each]
            cloud(axes[0], mine, class_colour(each), class_marker(each), size=5.0)
        axes[0].set_xticks([])
        axes[0].set_yticks([])
        axes[0].spines[:].set_visible(True)
        axes[0].set_xlabel("t-SNE 1")
        axes[0].set_ylabel("t-SNE 2")
        title(axes[0], number, label, len(named))
        names = [*run.class_names, "unknown"]
        numbers += [
            (label, names[each], float(x), float(y))
            for each, (x, y) in zip(labels, points, strict=True)
        ]
    first = named[0][1]
    keys = []
    if len(first.class_names) <= 20:
        keys = [
            key(name, class_colour(n), class_marker(n)) for n, name in enumerate(first.class_names)
        ]
    if shape.unknown:
        keys.append(key("unknown", UNKNOWN_GREY, "x"))
    legend_below(figure, keys)
    return Picture(
        figure=figure,
        caption=(
            f"t-SNE maps (perplexity {shape.perplexity:g}, seed {shape.seed}) of the embeddings of "
            f"at most {shape.samples:,} test samples. Distances between far groups mean nothing."
        ),
        alt=f"t-SNE maps of {', '.join(label for label, _ in named)}, coloured by known class.",
        numbers=Numbers(("run", "class", "t-SNE 1", "t-SNE 2"), numbers),
    )


def mapped(
    run: RunData, shape: EmbeddingMap
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Map of some test samples, float32 [n, 2], and their classes, int64 [n], -1 for unknown.

    Raises:
        FigureError: the run has no features, or they tell nothing apart.
    """
    if run.known is None:
        raise FigureError("; ".join(run.gaps) or f"{run.folder.path} has no features")
    parts = [run.known, *(run.unknown if shape.unknown else ())]
    rows = [
        np.sort(each) for each in drawn_rows([len(p) for p in parts], shape.samples, shape.seed)
    ]
    labels = [run.known.label[rows[0]], *(np.full(len(each), -1) for each in rows[1:])]
    vectors = np.concatenate([run.embedding(p, r) for p, r in zip(parts, rows, strict=True)])
    few = len(vectors) < LEAST_POINTS or vectors.shape[1] < 2
    if few or not np.ptp(vectors, axis=0).any():
        raise FigureError(f"{run.folder.path} has too few different embeddings for a map")
    facts = repr((shape.unknown, shape.samples, shape.seed, shape.perplexity))
    name = f"tsne-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
    found = kept(run, name)
    if found is None:
        found = {"points": tsne(vectors, shape.seed, shape.perplexity)}
        keep(run, name, found)
    return found["points"], np.concatenate(labels).astype(np.int64)
