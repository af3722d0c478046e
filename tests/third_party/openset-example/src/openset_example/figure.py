"""A figure of a shape of its own: how long embeddings are."""

from __future__ import annotations

import numpy as np

from openset_core.errors import FigureError
from openset_core.report.colours import colour
from openset_core.report.figures.panels import grid, title
from openset_core.report.figures.picture import Numbers, Picture
from openset_core.report.figures.runs import FigureRuns
from openset_example import Lengths


def draw(shape: Lengths, runs: FigureRuns) -> Picture:
    """A panel a run, a curve for the known and for each unknown set."""
    named = runs.runs
    figure, panels = grid(len(named))
    rows = []
    for number, ((label, run), axes) in enumerate(zip(named, panels, strict=True)):
        if run.known is None:
            raise FigureError("; ".join(run.gaps))
        for place, part in enumerate((run.known, *run.unknown)):
            lengths = np.linalg.norm(run.embedding(part), axis=1)
            counts, edges = np.histogram(lengths, shape.bins)
            axes[0].stairs(counts, edges, color=colour(place).light, label=part.name)
            rows.append((label, part.name, float(lengths.mean())))
        axes[0].set_xlabel("length")
        axes[0].set_ylabel("samples")
        title(axes[0], number, label, len(named))
    return Picture(
        figure=figure,
        caption="Lengths of embeddings.",
        alt="Histograms of the lengths of embeddings.",
        numbers=Numbers(("run", "part", "mean length"), rows),
    )
