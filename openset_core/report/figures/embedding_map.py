"""A two-dimensional t-SNE map of the embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from openset_core.errors import FigureError
from openset_core.report.data import RunData
from openset_core.report.figures import EmbeddingMap
from openset_core.report.figures.panels import (
    class_colour,
    class_marker,
    cloud,
    drawn,
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
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Map of some test samples, float64 [n, 2], and their classes, int64 [n], -1 for unknown.

    Raises:
        FigureError: the run has no features, or too few samples for the perplexity.
    """
    from sklearn.manifold import TSNE

    if run.known is None:
        raise FigureError("; ".join(run.gaps) or f"{run.folder.path} has no features")
    parts = [run.known, *(run.unknown if shape.unknown else ())]
    total = sum(map(len, parts))
    features, labels = [], []
    for number, part in enumerate(parts):
        # Each part keeps its share of the samples drawn.
        rows = drawn(part, max(1, shape.samples * len(part) // total), shape.seed + number)
        features.append(run.embedding(part, rows))
        labels.append(part.label[rows] if number == 0 else np.full(len(rows), -1))
    points = np.concatenate(features)
    if len(points) <= 3 * shape.perplexity:
        raise FigureError(
            f"{run.folder.path}: {len(points)} samples are too few for a perplexity of "
            f"{shape.perplexity:g}; lower it with --set perplexity={max(1, len(points) // 4)}"
        )
    tsne = TSNE(perplexity=shape.perplexity, init="pca", random_state=shape.seed)
    return tsne.fit_transform(points).astype(np.float64), np.concatenate(labels).astype(np.int64)
