"""The plane of a two-dimensional embedding: known classes, unknown sets and landmarks."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt

from openset_core.report.charts.feature_space import (
    Looks,
    class_looks,
    densities,
    few,
    plane,
    unknown_looks,
)
from openset_core.report.charts.panels import panel_width, panels
from openset_core.report.colours import KNOWN
from openset_core.report.data import RunData, TestSplit
from openset_core.report.figures import FeatureSpace
from openset_core.report.figures.drawing import (
    FigureResult,
    FigureRuns,
    by_class,
    check_plane,
    drawn,
    known_split,
    landmark_note,
)

BINS = 60
TOGETHER = {"set": "known", "class": "known, all classes"}
"""What the legend calls all known samples, by the shape's option `colour`."""


def draw(shape: FeatureSpace, runs: FigureRuns) -> FigureResult:
    """Draw a panel for each run."""
    labelled = runs.runs
    for _label, run in labelled:
        check_plane(run)
    opened = [run for _label, run in labelled]
    sets = list(dict.fromkeys(split.name for run in opened for split in run.unknown))
    looks = _looks(opened, shape, sets)
    side = panel_width(len(labelled))
    together = TOGETHER[shape.colour]
    rows: list[tuple[Any, ...]] = []
    charts: list[tuple[str, Any]] = []
    for number, (label, run) in enumerate(labelled):
        clouds = []
        # The known samples come last, on top: the question is how far the unknown reach under them.
        for place, split in reversed(list(enumerate(splits_of(run)))):
            chosen = drawn(split, shape.samples, shape.seed + place)
            points = run.embedding(split, chosen)
            if place > 0:
                clouds.append((f"unknown: {split.name}", points))
            elif shape.colour == "set":
                clouds.append((together, points))
            else:
                clouds += by_class(run, points, split.label[chosen])
        landmarks = run.store.landmarks if run.store is not None else None
        marks = []
        if landmarks is not None:
            marks = by_class(run, landmarks.points, landmarks.labels)
            if shape.colour == "set":
                marks = [(together, landmarks.points)]
        chart: Any = plane(
            clouds,
            looks,
            side=side,
            titles=("dimension 1", "dimension 2" if number % 4 == 0 else ""),
            landmarks=marks,
            landmark_name="" if landmarks is None else landmarks.name,
        )
        if shape.histogram:
            edges, curves = _densities(run)
            rows += [
                (label, name, float(low), float(high), float(value))
                for name, values in curves
                for low, high, value in zip(edges, edges[1:], values, strict=False)
            ]
            name_of = {name: f"unknown: {name}" for name in sets} | {"known": together}
            below: Any = densities(
                [(name_of[name], values) for name, values in curves],
                edges,
                looks,
                title=shape.histogram_label,
                y_title="density" if number % 4 == 0 else "",
                width=side,
                height=0.45 * side,
            )
            chart = alt.vconcat(chart, below, spacing=8)
        else:
            rows += [
                (label, split.name, len(split), *map(float, _centre(run, split)))
                for split in splits_of(run)
            ]
        title = f"K = {run.num_classes}" if shape.title == "classes" else label
        charts.append((title, chart))
    columns = (
        ("run", "split", "from", "to", "density")
        if shape.histogram
        else ("run", "split", "samples", "mean of dimension 1", "mean of dimension 2")
    )
    names = ", ".join(label for label, _run in labelled)
    return FigureResult(
        chart=panels(
            charts,
            f"{len(charts)} scatter plots of the embedding, for {names}: known classes in colours, "
            "unknown sets apart from them.",
        ),
        caption=_caption(labelled, shape),
        columns=columns,
        rows=rows,
        notes=tuple(note for run in opened if (note := landmark_note(run))),
    )


def _caption(labelled: list[tuple[str, RunData]], shape: FeatureSpace) -> str:
    caption = [
        f"Two-dimensional embeddings of test samples, at most {shape.samples:,} of each split "
        "drawn by a seed."
    ]
    stores = [run.store for _label, run in labelled if run.store is not None]
    kinds = sorted({f"{s.landmarks.name}s" for s in stores if s.landmarks is not None})
    if kinds:
        caption.append(f"Triangles are the {' and '.join(kinds)}.")
    if shape.histogram:
        caption.append(
            f"Below, the distribution of the {shape.histogram_label} of known and unknown samples."
        )
    sizes = []
    for label, run in labelled:
        unknown = ", ".join(f"{len(split):,} of {split.name}" for split in run.unknown)
        known = len(known_split(run))
        sizes.append(f"{label}: {known:,} known and {unknown or 'no unknown'} test samples")
    return " ".join([*caption, f"{'; '.join(sizes)}."])


def _looks(runs: list[RunData], shape: FeatureSpace, sets: list[str]) -> Looks:
    """Of all groups; the legend has classes where all runs have the same few."""
    unknown = {
        f"unknown: {name}": look
        for name, look in unknown_looks(sets, coloured=shape.colour == "set").items()
    }
    known = {TOGETHER[shape.colour]: (KNOWN.light, "circle")}
    classes = dict.fromkeys(name for run in runs for name in run.class_names)
    if shape.colour == "set":
        return Looks(groups=known | unknown)
    groups = class_looks(list(classes)) | known | unknown
    shown = few(list(classes))
    shown += [*(known if shape.histogram or not shown else ()), *unknown]
    return Looks(groups=groups, legend=shown)


def splits_of(run: RunData) -> list[TestSplit]:
    """The known test samples, and the unknown sets."""
    return [known_split(run), *run.unknown]


def _centre(run: RunData, split: TestSplit) -> npt.NDArray[np.float64]:
    centre: npt.NDArray[np.float64] = run.embedding(split).mean(axis=0, dtype=np.float64)
    return centre


def largest_logits(run: RunData, split: TestSplit) -> npt.NDArray[np.float64]:
    """Largest logit of every sample of a split, float64 [n]."""
    assert run.store is not None
    chunks = run.store.chunks(split.part, "logits")
    return np.concatenate([chunk["logits"].max(axis=1) for chunk in chunks]).astype(np.float64)


def _densities(
    run: RunData,
) -> tuple[npt.NDArray[np.float64], list[tuple[str, npt.NDArray[np.float64]]]]:
    """Edges of bins, and the density of the largest logit in each split of the test."""
    values = [(split.name, largest_logits(run, split)) for split in splits_of(run)]
    pooled = np.concatenate([each for _name, each in values])
    edges = np.linspace(pooled.min(), pooled.max(), BINS + 1)
    if edges[0] == edges[-1]:  # constant logits
        edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, BINS + 1)
    return edges, [(name, np.histogram(each, edges, density=True)[0]) for name, each in values]
