"""Test images met on the way from the centre of a class to a landmark of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from openset_core.errors import FigureError, did_you_mean
from openset_core.report.charts.panels import image_table
from openset_core.report.data import RunData, TestSplit
from openset_core.report.figure_cache import split_images
from openset_core.report.figures.drawing import (
    FigureResult,
    FigureRuns,
    known_split,
    landmark_note,
)
from openset_plugins.paper_figures import Retrieval

Integers = npt.NDArray[np.int64]
Points = npt.NDArray[np.float64]


def nearest_on_way(
    candidates: Iterable[npt.NDArray[Any]], start: Points, end: Points, steps: int
) -> tuple[Integers, Points]:
    """Candidates met on the straight way from one point to another, each at most once.

    The way is walked in equal steps, both ends included; at each the nearest candidate that was
    not met before is taken.
    """
    stops = [start + share * (end - start) for share in np.linspace(0.0, 1.0, steps)]
    # At most `steps - 1` candidates are taken by other stops, so `steps` of them suffice.
    near: list[list[tuple[float, int]]] = [[] for _ in stops]
    seen = 0
    for piece in candidates:
        places = piece.astype(np.float64)
        for number, stop in enumerate(stops):
            distance = np.linalg.norm(places - stop, axis=1)
            best = np.argsort(distance, kind="stable")[:steps]
            own = near[number] + [(float(distance[row]), seen + int(row)) for row in best]
            near[number] = sorted(own)[:steps]
        seen += len(places)
    taken: dict[int, float] = {}
    for own in near[:seen]:
        distance_there, row = next(each for each in own if each[1] not in taken)
        taken[row] = distance_there
    return np.array(list(taken), dtype=np.int64), np.array(list(taken.values()))


def class_centre(run: RunData, number: int) -> Points:
    """Mean embedding of a class's training samples, float64 [E]."""
    known_split(run)  # refuses a run without features
    assert run.store is not None
    total, count = 0.0, 0
    for chunk in run.store.chunks("train", "embedding", "label"):
        own = chunk["embedding"][chunk["label"] == number].astype(np.float64)
        total, count = total + own.sum(axis=0), count + len(own)
    centre: Points = np.asarray(total) / max(count, 1)
    return centre


def draw(shape: Retrieval, runs: FigureRuns) -> FigureResult:
    """Draw a row of images for each class of the first run."""
    label, run = runs.runs[0]
    splits = _searched(run, shape.split)
    landmarks = None if run.store is None else run.store.landmarks
    if landmarks is None:
        raise FigureError(
            landmark_note(run)
            or f"the loss of {run.folder.path} keeps no point of a class in the embedding, such as "
            "a reciprocal point, to which images could lead"
        )
    classes = _classes(run, shape)
    starts = np.cumsum([0, *map(len, splits)])
    images, symbols = [], []
    rows: list[tuple[Any, ...]] = []
    for line, number in enumerate(classes):
        end = landmarks.points[landmarks.labels == number].astype(np.float64).mean(axis=0)
        chosen, distances = nearest_on_way(
            _embeddings(run, splits), class_centre(run, number), end, shape.steps
        )
        symbols += [(line, 0, "circle"), (line, shape.steps + 1, "triangle-up")]
        for stop, (row, distance) in enumerate(zip(chosen, distances, strict=True)):
            owner = int(np.searchsorted(starts, row, side="right")) - 1
            split, own = splits[owner], int(row - starts[owner])
            image = split_images(run, split.part, np.array([own]), runs.data_root)[0]
            images.append((line, stop + 1, image))
            name = split.class_name(split.label[own])
            share = stop / (shape.steps - 1)
            rows.append((run.class_names[number], share, split.name, name, own, float(distance)))
    searched = " and ".join(split.name for split in splits)
    return FigureResult(
        chart=image_table(
            images,
            f"Rows of images of {searched}, one a known class, from its centre to its "
            f"{landmarks.name}.",
            rows=[run.class_names[number] for number in classes],
            columns=["class\ncentre", *[""] * shape.steps, landmarks.name.replace(" ", "\n")],
            symbols=symbols,
        ),
        caption=(
            f"{label}: samples of {searched} nearest to the way from the centre of a known class "
            f"(circle, the mean of its training samples) to its {landmarks.name} (triangle), in "
            f"{shape.steps} equal steps through the embedding."
        ),
        columns=("known class", "share of the way", "set", "class there", "row", "distance"),
        rows=rows,
        notes=one_run_note(runs),
    )


def _embeddings(run: RunData, splits: Sequence[TestSplit]) -> Iterator[npt.NDArray[Any]]:
    assert run.store is not None
    for split in splits:
        for chunk in run.store.chunks(split.part, "embedding"):
            yield chunk["embedding"]


def one_run_note(runs: FigureRuns) -> tuple[str, ...]:
    """What is to be said where only one of several runs is shown."""
    more = len(runs.runs) - 1
    return (f"the figure shows one run; {more} more were left out",) if more else ()


def _classes(run: RunData, shape: Retrieval) -> Sequence[int]:
    for number in shape.classes:
        if number >= run.num_classes:
            raise FigureError(
                f"classes names {number}, {run.folder.path} has the known classes 0 to "
                f"{run.num_classes - 1}"
            )
    return shape.classes or range(min(run.num_classes, 10))


def _searched(run: RunData, name: str) -> list[TestSplit]:
    """Splits of the test in which images are searched."""
    known = known_split(run)
    choices = {"known": [known], "unknown": list(run.unknown), "first": list(run.unknown[:1])}
    for split in run.unknown:
        choices.setdefault(split.name, [split])
    if name not in choices:
        raise FigureError(
            f"{run.folder.path} has no split {name!r}{did_you_mean(name, choices)}; there are "
            f"{', '.join(choices)}"
        )
    return choices[name] or [known]
