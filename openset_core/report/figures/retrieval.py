"""Images on the way between two places of the embedding: retrieved ones, and generated ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from openset_core.errors import FigureError, did_you_mean
from openset_core.report.colours import colour
from openset_core.report.data import Integers, RunData, TestSplit
from openset_core.report.figure_cache import split_images
from openset_core.report.figures import GeneratedBetween, Retrieval
from openset_core.report.figures.feature_space import landmark_note
from openset_core.report.figures.generated import embedded_samples, samples_of
from openset_core.report.figures.picture import Numbers, Picture
from openset_core.report.figures.runs import FigureRuns
from openset_core.report.style import DOUBLE_COLUMN, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = npt.NDArray[np.float64]
MARK = colour(1).light


def nearest_on_way(
    candidates: Iterable[npt.NDArray[Any]], start: Points, end: Points, steps: int
) -> tuple[Integers, Points]:
    """Candidates met on the straight way from one point to another, each at most once.

    The way is walked in equal steps, both ends included; at each the nearest candidate that was
    not met before is taken.

    Args:
        candidates: float [n, E] in pieces, so that they need not fit into memory.
        start: float [E].
        end: float [E].
        steps: number of stops.

    Returns:
        Rows of the candidates in the order of the way, int64 [s], and their distances to their
        stops, float64 [s]; s is the least of `steps` and n.
    """
    stops = [start + share * (end - start) for share in np.linspace(0.0, 1.0, steps)]
    # No stop has to give way more often than there are stops before it.
    near: list[list[tuple[float, int]]] = [[] for _ in stops]
    seen = 0
    for piece in candidates:
        places = piece.astype(np.float64)
        for stop, found in zip(stops, near, strict=True):
            distance = np.linalg.norm(places - stop, axis=1)
            best = np.argsort(distance, kind="stable")[:steps]
            found += [(float(distance[row]), seen + int(row)) for row in best]
            found[:] = sorted(found)[:steps]
        seen += len(places)
    taken: dict[int, float] = {}
    for found in near[:seen]:
        distance, row = next(each for each in found if each[1] not in taken)
        taken[row] = distance
    return np.array(list(taken), dtype=np.int64), np.array(list(taken.values()))


def class_centre(run: RunData, number: int) -> Points:
    """Mean embedding of a class's training samples, float64 [E].

    Raises:
        FigureError: there is no feature store.
    """
    if run.store is None:
        raise FigureError("; ".join(run.gaps) or f"{run.folder.path} has no features")
    total, count = 0.0, 0
    for chunk in run.store.chunks("train", "embedding", "label"):
        own = chunk["embedding"][chunk["label"] == number].astype(np.float64)
        total, count = total + own.sum(axis=0), count + len(own)
    centre: Points = np.asarray(total) / max(count, 1)
    return centre


# --- from the centre to the landmark --------------------------------------------------------------


def draw_retrieval(shape: Retrieval, runs: FigureRuns) -> Picture:
    """Draw a row of images for each class of the first run."""
    label, run = runs.runs[0]
    parts = _sought(run, shape.part)
    landmarks = None if run.store is None else run.store.landmarks
    if landmarks is None:
        raise FigureError(
            landmark_note(run)
            or f"the loss of {run.folder.path} keeps no point of a class in the embedding, such as "
            "a reciprocal point, to which images could lead"
        )
    classes = _classes(run, shape)
    starts = np.cumsum([0, *map(len, parts)])
    rows_of_images = []
    numbers: list[tuple[Any, ...]] = []
    for number in classes:
        end = landmarks.points[landmarks.labels == number].astype(np.float64).mean(axis=0)
        rows, distances = nearest_on_way(
            _embeddings(run, parts), class_centre(run, number), end, shape.steps
        )
        owner = np.searchsorted(starts, rows, side="right") - 1
        own = [int(row - starts[part]) for row, part in zip(rows, owner, strict=True)]
        rows_of_images.append(
            [
                split_images(run, parts[part].part, np.array([row]), runs.data_root)[0]
                for part, row in zip(owner, own, strict=True)
            ]
        )
        for stop, (part, row, distance) in enumerate(zip(owner, own, distances, strict=True)):
            share = stop / (shape.steps - 1)
            name = parts[part].class_name(parts[part].label[row])
            cells = (run.class_names[number], share, parts[part].name, name, row, float(distance))
            numbers.append(cells)
    sought = " and ".join(part.name for part in parts)
    figure = _image_rows(
        rows_of_images, [run.class_names[number] for number in classes], landmarks.name
    )
    return Picture(
        figure=figure,
        caption=(
            f"{label}: samples of {sought} nearest to the way from the centre of a known class "
            f"(circle, the mean of its training samples) to its {landmarks.name} (triangle), in "
            f"{shape.steps} equal steps through the embedding."
        ),
        alt=f"Rows of images of {sought}, one a known class, from its centre to its landmark.",
        numbers=Numbers(
            ("known class", "share of the way", "set", "class there", "row", "distance"), numbers
        ),
        notes=_one_run_note(runs),
    )


def _embeddings(run: RunData, parts: Sequence[TestSplit]) -> Iterator[npt.NDArray[Any]]:
    assert run.store is not None
    for part in parts:
        for chunk in run.store.chunks(part.part, "embedding"):
            yield chunk["embedding"]


def _one_run_note(runs: FigureRuns) -> tuple[str, ...]:
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


def _sought(run: RunData, wish: str) -> list[TestSplit]:
    """Parts of the test in which images are sought.

    Raises:
        FigureError: there is no such part.
    """
    if run.known is None:
        raise FigureError("; ".join(run.gaps) or f"{run.folder.path} has no features")
    if wish == "known" or not run.unknown:
        return [run.known]
    if wish == "unknown":
        return list(run.unknown)
    if wish == "first":
        return [run.unknown[0]]
    for part in run.unknown:
        if part.name == wish:
            return [part]
    names = ["known", "unknown", "first", *(part.name for part in run.unknown)]
    raise FigureError(
        f"{run.folder.path} has no part {wish!r}{did_you_mean(wish, names)}; there are "
        f"{', '.join(names)}"
    )


def _image_rows(
    rows: Sequence[Sequence[npt.NDArray[np.uint8]]], names: Sequence[str], landmark: str
) -> Any:
    """Rows of images between a circle and a triangle."""
    columns = max(map(len, rows)) + 2
    figure = new_figure(DOUBLE_COLUMN, 0.3 + len(rows) * DOUBLE_COLUMN / (columns + 1))
    ratios = [1.1, *[1.0] * (columns - 2), 0.8]
    grid = figure.subplots(len(rows), columns, squeeze=False, width_ratios=ratios)
    for row, (images, name) in enumerate(zip(rows, names, strict=True)):
        _mark(grid[row, 0], "o", name)
        for column in range(1, columns - 1):
            axes = grid[row, column]
            if column <= len(images):
                show_image(axes, images[column - 1])
            else:
                axes.set_axis_off()
        _mark(grid[row, -1], "^", "")
    grid[0, 0].set_title("class\ncentre", fontsize=6.5)
    grid[0, -1].set_title(landmark.replace(" ", "\n"), fontsize=6.5)
    return figure


def _mark(axes: Axes, marker: str, text: str) -> None:
    axes.set_axis_off()
    axes.scatter([0.72 if text else 0.5], [0.5], s=70, marker=marker, color=MARK)
    if text:
        axes.text(0.45, 0.5, text, ha="right", va="center", fontsize=7)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def show_image(axes: Axes, image: npt.NDArray[np.uint8]) -> None:
    """An image without axes around it, uint8 [H, W, 1 or 3]."""
    grey = image.shape[-1] == 1
    axes.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


# --- generated images between training images -----------------------------------------------------


def draw_between(shape: GeneratedBetween, runs: FigureRuns) -> Picture:
    """Draw columns: a training image, generated ones on the way, a training image."""
    with_samples = [(label, run) for label, run in runs.runs if run.folder.samples.exists()]
    if not with_samples:
        paths = ", ".join(str(run.folder.path) for _label, run in runs.runs)
        raise FigureError(
            f"no generated samples are kept in {paths}; train with a sample generator, such as "
            "`--plugins LOSS,confused-gan`"
        )
    label, run = with_samples[0]
    samples = samples_of(run)
    embeddings = embedded_samples(run, run, samples)
    if run.num_classes < 2:
        raise FigureError(f"{run.folder.path} has one known class; there is no way to another")
    pairs = class_pairs(run.num_classes, shape.columns, shape.seed)
    columns = []
    numbers: list[tuple[Any, ...]] = []
    for first, second in pairs:
        start, end = class_centre(run, first), class_centre(run, second)
        # The ends of the way belong to the training images.
        step = (end - start) / (shape.steps + 1)
        inner = start + step, end - step
        rows, distances = nearest_on_way([embeddings], *inner, shape.steps)
        top, bottom = (_typical(run, number, at) for number, at in ((first, start), (second, end)))
        ends = split_images(run, "train", np.array([top, bottom]), runs.data_root)
        columns.append([ends[0], *samples[rows], ends[1]])
        numbers += [
            (run.class_names[first], run.class_names[second], stop + 1, int(row), float(distance))
            for stop, (row, distance) in enumerate(zip(rows, distances, strict=True))
        ]
    height = max(map(len, columns))
    figure = new_figure(DOUBLE_COLUMN, 0.45 + DOUBLE_COLUMN * height / (len(columns) + 1.2))
    grid = figure.subplots(height, len(columns), squeeze=False)
    for column, (images, pair) in enumerate(zip(columns, pairs, strict=True)):
        for row, image in enumerate(images):
            show_image(grid[row, column], image)
        grid[0, column].set_title(run.class_names[pair[0]], fontsize=7)
        grid[-1, column].set_xlabel(run.class_names[pair[1]], fontsize=7)
    grid[0, 0].set_ylabel("training", fontsize=7)
    grid[(height - 1) // 2, 0].set_ylabel("generated", fontsize=7)
    grid[-1, 0].set_ylabel("training", fontsize=7)
    return Picture(
        figure=figure,
        caption=(
            f"{label}: generated images between training images of two known classes. In each "
            "column the topmost and the bottommost are the training images nearest to their class "
            f"centres; in between, of {len(samples)} generated images those nearest to equal steps "
            "from the one centre to the other in the embedding."
        ),
        alt=f"{len(columns)} columns of generated images between training images of two classes.",
        numbers=Numbers(("from class", "to class", "step", "sample", "distance"), numbers),
        notes=_one_run_note(runs),
    )


def class_pairs(classes: int, count: int, seed: int) -> list[tuple[int, int]]:
    """Pairs of different classes, drawn by a seed; all of them before any comes again."""
    every = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    random = np.random.default_rng(seed)
    order: list[int] = []
    while len(order) < count:
        order += random.permutation(len(every)).tolist()
    return [every[number] for number in order[:count]]


def _typical(run: RunData, number: int, centre: Points) -> int:
    """Row of the training sample of a class that lies nearest to the class's centre."""
    assert run.store is not None
    best, where, start = np.inf, 0, 0
    for chunk in run.store.chunks("train", "embedding", "label"):
        distance = np.linalg.norm(chunk["embedding"].astype(np.float64) - centre, axis=1)
        distance[chunk["label"] != number] = np.inf
        if distance.min() < best:
            best, where = float(distance.min()), start + int(distance.argmin())
        start += len(distance)
    return where
