"""Features of generated samples, before and after training on them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from openset_core.errors import FigureError
from openset_core.report.data import RunData
from openset_core.report.figure_cache import keep, kept
from openset_core.report.figures import GeneratedFeatures
from openset_core.report.figures.feature_space import plane
from openset_core.report.figures.panels import (
    class_colour,
    class_marker,
    cloud,
    drawn,
    grid,
    key,
    legend_below,
    side,
    square,
    title,
)
from openset_core.report.figures.picture import Numbers, Picture
from openset_core.report.figures.runs import FigureRuns
from openset_core.training.generated_samples import read_samples

Pixels = npt.NDArray[np.uint8]
GENERATED = "#000000"
"""Colour of generated samples, apart from those of all classes."""


def samples_of(run: RunData) -> Pixels:
    """Generated samples that a run kept, uint8 [N, H, W, C].

    Raises:
        FigureError: there are none.
    """
    found = read_samples(run.folder.samples)
    if found is None:
        raise FigureError(
            f"{run.folder.path} keeps no generated samples; train with a sample generator"
        )
    return found


def embedded_samples(run: RunData, source: RunData, samples: Pixels) -> npt.NDArray[np.float32]:
    """Embeddings of generated samples by a run's network, float32 [N, E].

    The network is asked once; the answer is kept in the run folder.

    Args:
        run: whose network.
        source: the run that the samples are of.
        samples: the samples.
    """
    digest = hashlib.sha256(samples.tobytes()).hexdigest()[:16]
    name = f"embedded-{digest}"
    found = kept(run, name)
    if found is None:
        from openset_core.inference.trained_model import load

        network = load(run.folder.path)
        side = network.description.image.size
        if samples.shape[1] != side:
            raise FigureError(
                f"the samples of {source.folder.path} have {samples.shape[1]} pixels a side, the "
                f"network of {run.folder.path} takes {side}; name runs of one protocol"
            )
        found = {"embedding": network.features(samples)["embedding"]}
        keep(run, name, found)
    embedding: npt.NDArray[np.float32] = found["embedding"]
    return embedding


def draw_features(shape: GeneratedFeatures, runs: FigureRuns) -> Picture:
    """Draw a panel for each run: what its network makes of the same generated samples."""
    named = runs.runs
    sources = [run for _label, run in named if run.folder.samples.exists()]
    if not sources:
        paths = ", ".join(str(run.folder.path) for _label, run in named)
        raise FigureError(f"none of these runs keeps generated samples: {paths}")
    source = sources[-1]
    samples = samples_of(source)
    figure, panels = grid(len(named), height=side(len(named), 2) + 0.4, most=2)
    numbers: list[tuple[Any, ...]] = []
    for number, ((label, run), axes) in enumerate(zip(named, panels, strict=True)):
        known = run.known
        if known is None:
            raise FigureError("; ".join(run.gaps) or f"{run.folder.path} has no features")
        rows = drawn(known, shape.samples, shape.seed)
        points, labels = plane(run, known, rows), known.label[rows]
        for each in np.unique(labels):
            mine = points[labels == each]
            cloud(axes[0], mine, class_colour(each), class_marker(each), size=3.0)
        made = embedded_samples(run, source, samples)
        cloud(axes[0], made, GENERATED, "+", size=9.0, linewidths=0.6, alpha=0.8)
        square(axes[0], [points, made])
        axes[0].set_xlabel("dimension 1")
        axes[0].set_ylabel("dimension 2")
        title(axes[0], number, label, len(named))
        for kind, cloud_points in (("known", run.embedding(known)), ("generated", made)):
            length = np.linalg.norm(cloud_points.astype(np.float64), axis=1)
            numbers.append((label, kind, len(length), float(length.mean()), float(length.max())))
    first = named[0][1]
    keys = [key("generated", GENERATED, "+", 5.0)]
    if len(first.class_names) <= 20:
        keys += [
            key(name, class_colour(n), class_marker(n)) for n, name in enumerate(first.class_names)
        ]
    legend_below(figure, keys)
    return Picture(
        figure=figure,
        caption=(
            f"Embeddings of {len(samples)} samples of the generator of {source.folder.path.name} "
            f"(crosses) among at most {shape.samples:,} known test samples, by each run's network."
        ),
        alt=(
            f"Scatter plots for {', '.join(label for label, _ in named)}: known classes in "
            "colours, generated samples as crosses."
        ),
        numbers=Numbers(("run", "samples", "number", "mean length", "greatest length"), numbers),
    )
