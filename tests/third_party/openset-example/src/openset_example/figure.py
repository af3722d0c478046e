"""A figure of a shape of its own: how long embeddings are."""

from __future__ import annotations

import altair as alt
import numpy as np

from openset_core.report.charts.panels import panels
from openset_core.report.figures.drawing import FigureResult, FigureRuns, known_split
from openset_example import Lengths


def draw(config: Lengths, runs: FigureRuns) -> FigureResult:
    """A panel a run, a curve for the known and for each unknown set."""
    charts = []
    rows = []
    for label, run in runs.runs:
        splits = (known_split(run), *run.unknown)
        names = [split.name for split in splits]
        lengths = [np.linalg.norm(run.embedding(split), axis=1) for split in splits]
        edges = np.histogram_bin_edges(np.concatenate(lengths), config.bins)
        values = [
            {"split": name, "length": float(edge), "samples": int(count)}
            for name, each in zip(names, lengths, strict=True)
            for edge, count in zip(edges, np.histogram(each, edges)[0], strict=False)
        ]
        chart = alt.Chart(alt.InlineData(values=values), width=200, height=140)
        lines = chart.mark_line(interpolate="step-after")
        charts.append((label, lines.encode(x="length:Q", y="samples:Q", color="split:N")))
        rows += [(label, n, float(each.mean())) for n, each in zip(names, lengths, strict=True)]
    return FigureResult(
        chart=panels(charts, "Histograms of the lengths of embeddings."),
        caption="Lengths of embeddings.",
        columns=("run", "split", "mean length"),
        rows=rows,
    )
