"""The plane of a two-dimensional embedding with landmarks, and t-SNE maps of wider ones."""

from __future__ import annotations

import hashlib
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt

from openset_core.errors import FigureError
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
from openset_core.report.data import Integers, RunData, TestSplit
from openset_core.report.embedding import LEAST_POINTS, drawn_rows, tsne
from openset_core.report.figure_cache import keep, kept
from openset_core.report.figures import EmbeddingMap, FeatureSpace
from openset_core.report.figures.drawing import (
    FigureResult,
    FigureRuns,
    check_plane,
    drawn,
    known_split,
    landmark_note,
    thinning_note,
)

BINS = 60
TOGETHER = {"set": "known", "class": "known, all classes"}
"""What the legend calls all known samples, by the shape's option `colour`."""


# --- the plane ------------------------------------------------------------------------------------


def draw(shape: FeatureSpace, runs: FigureRuns) -> FigureResult:
    """Draw a panel for each run."""
    labelled = runs.runs
    opened = [run for _label, run in labelled]
    for run in opened:
        check_plane(run)
    sets = list(dict.fromkeys(split.name for run in opened for split in run.unknown))
    looks = _looks(opened, shape, sets)
    side = panel_width(len(labelled))
    together = TOGETHER[shape.colour]
    rows: list[tuple[Any, ...]] = []
    charts: list[tuple[str, Any]] = []
    most = 0
    for number, (label, run) in enumerate(labelled):
        splits = [known_split(run), *run.unknown]

        def names(labels: Integers, run: RunData = run) -> list[str]:
            if shape.colour == "set":
                return [together] * len(labels)
            return [run.class_names[each] for each in labels]

        points, groups = [], []
        # The known samples come last, on top: the question is how far the unknown reach under them.
        for place, split in reversed(list(enumerate(splits))):
            chosen = drawn(split, shape.samples, shape.seed + place)
            points.append(run.embedding(split, chosen))
            unknown = [f"unknown: {split.name}"] * len(chosen)
            groups += unknown if place else names(split.label[chosen])
        landmarks = run.store.landmarks if run.store is not None else None
        most = max(most, len(groups))
        chart: Any = plane(
            np.concatenate(points),
            groups,
            looks,
            side=side,
            titles=("dimension 1", "" if number % 4 else "dimension 2"),
            landmarks=(landmarks.points, names(landmarks.labels)) if landmarks else None,
            landmark_name=landmarks.name if landmarks else "",
        )
        if shape.histogram:
            edges, curves = _densities(run, splits)
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
                y_title="" if number % 4 else "density",
                width=side,
                height=0.45 * side,
            )
            chart = alt.vconcat(chart, below, spacing=8)
        else:
            for split in splits:
                centre = run.embedding(split).mean(axis=0, dtype=np.float64)
                rows.append((label, split.name, len(split), float(centre[0]), float(centre[1])))
        charts.append((f"K = {run.num_classes}" if shape.title == "classes" else label, chart))
    notes = [note for run in opened if (note := landmark_note(run))]
    return FigureResult(
        chart=panels(
            charts,
            f"{len(charts)} scatter plots of the embedding, for "
            f"{', '.join(label for label, _run in labelled)}: known classes in colours, "
            "unknown sets apart from them.",
        ),
        caption=_caption(labelled, shape),
        columns=("run", "split", "from", "to", "density")
        if shape.histogram
        else ("run", "split", "samples", "mean of dimension 1", "mean of dimension 2"),
        rows=rows,
        notes=(*notes, *thinning_note(most)),
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
    coloured = shape.colour == "set"
    unknown = {f"unknown: {name}": look for name, look in unknown_looks(sets, coloured).items()}
    known = {TOGETHER[shape.colour]: (KNOWN.light, "circle")}
    if coloured:
        return Looks(groups=known | unknown)
    classes = list(dict.fromkeys(name for run in runs for name in run.class_names))
    shown = few(classes)
    shown += [*(known if shape.histogram or not shown else ()), *unknown]
    return Looks(groups=class_looks(classes) | known | unknown, legend=shown)


def largest_logits(run: RunData, split: TestSplit) -> npt.NDArray[np.float64]:
    """Largest logit of every sample of a split, float64 [n]."""
    assert run.store is not None
    chunks = run.store.chunks(split.part, "logits")
    return np.concatenate([chunk["logits"].max(axis=1) for chunk in chunks]).astype(np.float64)


def _densities(
    run: RunData, splits: list[TestSplit]
) -> tuple[npt.NDArray[np.float64], list[tuple[str, npt.NDArray[np.float64]]]]:
    """Edges of bins, and the density of the largest logit in each split of the test."""
    values = [(split.name, largest_logits(run, split)) for split in splits]
    edges = np.histogram_bin_edges(np.concatenate([each for _name, each in values]), BINS)
    return edges, [(name, np.histogram(each, edges, density=True)[0]) for name, each in values]


# --- t-SNE ----------------------------------------------------------------------------------------


def draw_map(shape: EmbeddingMap, runs: FigureRuns) -> FigureResult:
    """Draw a map for each run."""
    labelled = runs.runs
    classes = list(dict.fromkeys(name for _label, run in labelled for name in run.class_names))
    unknown = unknown_looks(["unknown"] if shape.unknown else [])
    looks = Looks(groups=class_looks(classes) | unknown, legend=few(classes) + list(unknown))
    side = panel_width(len(labelled), 2, most=280)
    rows: list[tuple[Any, ...]] = []
    charts = []
    most = 0
    for label, run in labelled:
        points, labels = mapped(run, shape)
        names = [*run.class_names, "unknown"]
        rows += [
            (label, names[each], float(x), float(y))
            for each, (x, y) in zip(labels, points, strict=True)
        ]
        order = np.argsort(labels >= 0, kind="stable")  # known samples on top
        groups = [names[each] for each in labels[order]]
        titles = ("t-SNE 1", "t-SNE 2")
        chart = plane(points[order], groups, looks, side=side, titles=titles, numbers=False)
        charts.append((label, chart))
        most = max(most, len(points))
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
        notes=thinning_note(most),
    )


def mapped(run: RunData, shape: EmbeddingMap) -> tuple[npt.NDArray[np.float32], Integers]:
    """Map of some test samples, float32 [n, 2], and their classes, int64 [n], -1 for unknown."""
    known = known_split(run)
    splits = [known, *(run.unknown if shape.unknown else ())]
    rows = [np.sort(each) for each in drawn_rows(list(map(len, splits)), shape.samples, shape.seed)]
    labels = [known.label[rows[0]], *(np.full(len(each), -1) for each in rows[1:])]
    vectors = np.concatenate([run.embedding(s, r) for s, r in zip(splits, rows, strict=True)])
    narrow = len(vectors) < LEAST_POINTS or vectors.shape[1] < 2
    if narrow or not np.ptp(vectors, axis=0).any():
        raise FigureError(f"{run.folder.path} has too few different embeddings for a map")
    facts = repr((shape.unknown, shape.samples, shape.seed, shape.perplexity))
    name = f"tsne-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
    arrays = kept(run, name)
    if arrays is None:
        arrays = {"points": tsne(vectors, shape.seed, shape.perplexity)}
        keep(run, name, arrays)
    return arrays["points"], np.concatenate(labels).astype(np.int64)
