"""The plane of a two-dimensional embedding: known classes, unknown sets and landmarks."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from openset_core.errors import FigureError
from openset_core.report.colours import colour
from openset_core.report.data import RunData, TestSplit
from openset_core.report.figures import FeatureSpace
from openset_core.report.figures.panels import (
    class_colour,
    class_marker,
    cloud,
    counted,
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNKNOWN_LOOK = (
    ("#4d4d4d", "x"),
    ("#7f7f7f", "+"),
    ("#a6a6a6", "1"),
    ("#666666", "|"),
    ("#8c8c8c", "_"),
)
"""Greys and markers of unknown sets beside coloured classes; line markers hide little."""

BINS = 60
MOST_BESIDE = 4
"""Panels side by side."""


def plane(run: RunData, part: TestSplit, rows: Any = None) -> npt.NDArray[np.float32]:
    """Embeddings [n, 2] of some samples.

    Raises:
        FigureError: the embedding has another number of dimensions, or is not there.
    """
    _check_plane(run)
    return run.embedding(part, rows)


def _check_plane(run: RunData) -> None:
    if run.store is None or run.known is None:
        raise FigureError("; ".join(run.gaps) or f"{run.folder.path} has no features")
    width = run.embedding(run.known, np.arange(1)).shape[1]
    if width != 2:
        raise FigureError(
            f"{run.folder.path} has an embedding of {width} numbers, this figure shows the plane "
            "of two; train it on a backbone whose vector has two, such as one with an option "
            "feature_dim=2"
        )


def draw(shape: FeatureSpace, runs: FigureRuns) -> Picture:
    """Draw a panel for each run; with histograms below if asked."""
    named = runs.runs
    for _label, run in named:
        _check_plane(run)
    rows = 2 if shape.histogram else 1
    figure, panels = grid(
        len(named),
        most=MOST_BESIDE,
        rows=rows,
        height=side(len(named)) + (1.5 if shape.histogram else 0.5),
        heights=(side(len(named)), 1.0) if shape.histogram else (),
    )
    numbers: list[tuple[Any, ...]] = []
    sets = list(dict.fromkeys(part.name for _label, run in named for part in run.unknown))
    notes = [note for _label, run in named if (note := landmark_note(run))]
    for number, ((label, run), axes) in enumerate(zip(named, panels, strict=True)):
        text = f"K = {run.num_classes}" if shape.title == "classes" else label
        _panel(axes[0], run, shape, sets)
        title(axes[0], number, text, len(named))
        if number % MOST_BESIDE == 0:
            axes[0].set_ylabel("dimension 2")
        if shape.histogram:
            numbers += _histogram(axes[1], run, shape, label, sets)
            narrow = len(named) > 2
            below = textwrap.fill(shape.histogram_label, 26) if narrow else shape.histogram_label
            axes[1].set_xlabel(below)
            if number == 0:
                axes[1].set_ylabel("density")
        else:
            numbers += [(label, part.name, len(part), *_centre(run, part)) for part in _parts(run)]
    legend_below(figure, _keys([run for _label, run in named], shape, sets))
    columns = (
        ("run", "part", "from", "to", "density")
        if shape.histogram
        else ("run", "part", "samples", "mean of dimension 1", "mean of dimension 2")
    )
    runs_text = "; ".join(f"{label}: {counted(run)}" for label, run in named)
    said = (
        f" Below, the distribution of the {shape.histogram_label} of known and unknown samples."
        if shape.histogram
        else ""
    )
    names = {mark.name for _label, run in named if (mark := _landmarks(run)) is not None}
    triangles = (
        f" Triangles are the {' and '.join(f'{n}s' for n in sorted(names))}." if names else ""
    )
    return Picture(
        figure=figure,
        caption=(
            f"Two-dimensional embeddings of test samples, at most {shape.samples:,} of each part "
            f"drawn by a seed.{triangles}{said} {runs_text}."
        ),
        alt=(
            f"{len(named)} scatter plots of the embedding, for {', '.join(n for n, _ in named)}: "
            "known classes in colours, unknown sets apart from them."
        ),
        numbers=Numbers(columns, numbers),
        notes=tuple(notes),
    )


def _parts(run: RunData) -> list[TestSplit]:
    assert run.known is not None
    return [run.known, *run.unknown]


def _centre(run: RunData, part: TestSplit) -> tuple[float, float]:
    mean = plane(run, part).mean(axis=0, dtype=np.float64)
    return float(mean[0]), float(mean[1])


def _landmarks(run: RunData) -> Any:
    return None if run.store is None else run.store.landmarks


def landmark_note(run: RunData) -> str:
    """What is to be said of a run that cannot tell whether its loss keeps landmarks."""
    if run.store is None or run.store.describes_loss:
        return ""
    return (
        f"{run.folder.features} is older than landmarks, so that none are shown; `openset extract "
        f"{run.folder.path} --rebuild` adds them"
    )


def unknown_look(number: int, by: str) -> tuple[str, str]:
    """Colour and marker of an unknown set."""
    if by == "set":
        return colour((3, 1, 2, 4, 5, 6, 7, 8, 9)[number % 9]).light, "sD^vPX<>p"[number % 9]
    return UNKNOWN_LOOK[number % len(UNKNOWN_LOOK)]


def _panel(axes: Axes, run: RunData, shape: FeatureSpace, sets: list[str]) -> None:
    everything = []
    # The known samples come last, on top: the question is how far the unknown reach under them.
    for number, part in reversed(list(enumerate(_parts(run)))):
        rows = drawn(part, shape.samples, shape.seed + number)
        points = plane(run, part, rows)
        everything.append(points)
        if number > 0:
            face, marker = unknown_look(sets.index(part.name), shape.colour)
            cloud(axes, points, face, marker, size=3.0, linewidths=0.4, alpha=0.5)
        elif shape.colour == "set":
            cloud(axes, points, colour(0).light, "o", size=3.0, alpha=0.5)
        else:
            label = part.label[rows]
            for each in np.unique(label):
                mine = points[label == each]
                cloud(axes, mine, class_colour(each), class_marker(each), size=3.0)
    landmarks = _landmarks(run)
    if landmarks is not None:
        by_class = shape.colour == "class"
        everything.append(landmarks.points)
        axes.scatter(
            landmarks.points[:, 0],
            landmarks.points[:, 1],
            s=26,
            marker="^",
            c=[class_colour(each) for each in landmarks.labels] if by_class else "white",
            edgecolors="black",
            linewidths=0.7,
            zorder=5,
        )
    square(axes, everything)
    axes.set_xlabel("dimension 1")


def largest_logits(run: RunData, part: TestSplit) -> npt.NDArray[np.float64]:
    """Largest logit of every sample of a part, float64 [n]."""
    assert run.store is not None
    chunks = run.store.chunks(part.part, "logits")
    return np.concatenate([chunk["logits"].max(axis=1) for chunk in chunks]).astype(np.float64)


def _histogram(
    axes: Axes, run: RunData, shape: FeatureSpace, label: str, sets: list[str]
) -> list[tuple[Any, ...]]:
    values = [largest_logits(run, part) for part in _parts(run)]
    pooled = np.concatenate(values)
    edges = np.linspace(pooled.min(), pooled.max(), BINS + 1)
    if edges[0] == edges[-1]:  # constant logits
        edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, BINS + 1)
    numbers: list[tuple[Any, ...]] = []
    for number, (part, found) in enumerate(zip(_parts(run), values, strict=True)):
        place = sets.index(part.name) if number else -1
        face = unknown_look(place, shape.colour)[0] if number else colour(0).light
        density, _edges = np.histogram(found, edges, density=True)
        axes.stairs(density, edges, fill=True, color=face, alpha=0.3)
        style = ("-", "--", ":", "-.")[(place + 1) % 4]
        axes.stairs(density, edges, color=face, linewidth=1.0, linestyle=style)
        numbers += [
            (label, part.name, float(low), float(high), float(value))
            for low, high, value in zip(edges, edges[1:], density, strict=False)
        ]
    return numbers


def _keys(runs: list[RunData], shape: FeatureSpace, sets: list[str]) -> list[Any]:
    """The legend: classes where all runs have the same few, unknown sets, landmarks."""
    from matplotlib.lines import Line2D

    keys = []
    names = runs[0].class_names
    same = all(run.class_names == names for run in runs)
    if shape.histogram and shape.colour == "class":
        keys.append(Line2D([], [], color=colour(0).light, label="known, all classes"))
    if shape.colour == "set":
        keys.append(key("known", colour(0).light, "o"))
    elif same and len(names) <= 20:
        keys += [key(name, class_colour(n), class_marker(n)) for n, name in enumerate(names)]
    else:
        keys.append(key("known, a colour a class", colour(0).light, "o"))
    for number, name in enumerate(sets):
        keys.append(key(f"unknown: {name}", *unknown_look(number, shape.colour)))
    marks = sorted({mark.name for run in runs if (mark := _landmarks(run)) is not None})
    keys += [key(name, "white", "^", 5.5, edge="black") for name in marks]
    return keys
