"""Generated samples in the embedding: their features, and images between two classes."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from openset_core import load
from openset_core.errors import FigureError
from openset_core.report.charts.feature_space import Looks, class_looks, plane
from openset_core.report.charts.panels import image_table, panel_width, panels
from openset_core.report.data import RunData
from openset_core.report.figure_cache import keep, kept, split_images
from openset_core.report.figures.drawing import (
    FigureResult,
    FigureRuns,
    check_plane,
    drawn,
    known_split,
)
from openset_plugins.paper_figures import GeneratedBetween, GeneratedFeatures
from openset_plugins.paper_figures.retrieval import class_centre, nearest_on_way, one_run_note

Pixels = npt.NDArray[np.uint8]


def embedded_samples(run: RunData, source: RunData, samples: Pixels) -> npt.NDArray[np.float32]:
    """Embeddings of generated samples by a run's network, float32 [N, E].

    The network is asked once; the answer is kept in the run folder.
    """
    name = f"embedded-{hashlib.sha256(samples.tobytes()).hexdigest()[:16]}"
    arrays = kept(run, name)
    if arrays is None:
        network = load(run.folder.path)
        side = network.description.image.size
        if samples.shape[1] != side:
            raise FigureError(
                f"the samples of {source.folder.path} have {samples.shape[1]} pixels a side, the "
                f"network of {run.folder.path} takes {side}; name runs of one protocol"
            )
        arrays = {"embedding": network.features(samples)["embedding"]}
        keep(run, name, arrays)
    embedding: npt.NDArray[np.float32] = arrays["embedding"]
    return embedding


def with_samples(runs: FigureRuns) -> list[tuple[str, RunData, Pixels]]:
    """Label, run and samples of the runs that keep generated samples."""
    keeping = [(label, run, run.generated) for label, run in runs.runs]
    there = [(label, run, samples) for label, run, samples in keeping if samples is not None]
    if not there:
        paths = ", ".join(str(run.folder.path) for _label, run in runs.runs)
        raise FigureError(
            f"none of these runs keeps generated samples: {paths}; train with a sample generator, "
            "such as `--plugins LOSS,confused-gan`"
        )
    return there


def draw_features(shape: GeneratedFeatures, runs: FigureRuns) -> FigureResult:
    """Draw a panel for each run: what its network makes of the same generated samples."""
    _label, source, samples = with_samples(runs)[-1]
    labelled = runs.runs
    names = dict.fromkeys(name for _label, run in labelled for name in run.class_names)
    looks = Looks(groups=class_looks(list(names)) | {"generated": ("#000000", "cross")})
    rows: list[tuple[Any, ...]] = []
    charts = []
    for label, run in labelled:
        known = known_split(run)
        check_plane(run)
        chosen = drawn(known, shape.samples, shape.seed)
        made = embedded_samples(run, source, samples)
        side = panel_width(len(labelled), 2)
        points = np.concatenate([run.embedding(known, chosen), made])
        groups = [run.class_names[each] for each in known.label[chosen]]
        groups += ["generated"] * len(made)
        charts.append((label, plane(points, groups, looks, side=side)))
        for kind, points in (("known", run.embedding(known)), ("generated", made)):
            length = np.linalg.norm(points.astype(np.float64), axis=1)
            rows.append((label, kind, len(length), float(length.mean()), float(length.max())))
    return FigureResult(
        chart=panels(
            charts,
            f"Scatter plots for {', '.join(label for label, _ in labelled)}: known classes in "
            "colours, generated samples as crosses.",
            columns=2,
        ),
        caption=(
            f"Embeddings of {len(samples)} samples of the generator of {source.folder.path.name} "
            f"(crosses) among at most {shape.samples:,} known test samples, by each run's network."
        ),
        columns=("run", "samples", "number", "mean length", "greatest length"),
        rows=rows,
    )


def draw_between(shape: GeneratedBetween, runs: FigureRuns) -> FigureResult:
    """Draw columns: a training image, generated ones on the way, a training image."""
    label, run, samples = with_samples(runs)[0]
    embeddings = embedded_samples(run, run, samples)
    if run.num_classes < 2:
        raise FigureError(f"{run.folder.path} has one known class; there is no way to another")
    pairs = class_pairs(run.num_classes, shape.columns, shape.seed)
    images: list[tuple[int, int, Pixels]] = []
    rows: list[tuple[Any, ...]] = []
    for column, (first, second) in enumerate(pairs):
        start, end = class_centre(run, first), class_centre(run, second)
        # The ends of the way belong to the training images.
        step = (end - start) / (shape.steps + 1)
        chosen, distances = nearest_on_way([embeddings], start + step, end - step, shape.steps)
        ends = [_typical(run, number, at) for number, at in ((first, start), (second, end))]
        top, bottom = split_images(run, "train", np.array(ends), runs.data_root)
        images += [
            (row, column, image) for row, image in enumerate([top, *samples[chosen], bottom])
        ]
        rows += [
            (run.class_names[first], run.class_names[second], stop, int(row), float(distance))
            for stop, (row, distance) in enumerate(zip(chosen, distances, strict=True), start=1)
        ]
    between = max(row for row, _, _ in images) - 1
    return FigureResult(
        chart=image_table(
            images,
            f"{len(pairs)} columns of generated images between training images of two classes.",
            rows=["training", *["generated"] * between, "training"],
            columns=[run.class_names[first] for first, _ in pairs],
            below=[run.class_names[second] for _, second in pairs],
        ),
        caption=(
            f"{label}: generated images between training images of two known classes. In each "
            "column the topmost and the bottommost are the training images nearest to their class "
            f"centres; in between, of {len(samples)} generated images those nearest to equal steps "
            "from the one centre to the other in the embedding."
        ),
        columns=("from class", "to class", "step", "sample", "distance"),
        rows=rows,
        notes=one_run_note(runs),
    )


def class_pairs(classes: int, count: int, seed: int) -> list[tuple[int, int]]:
    """Pairs of different classes, drawn by a seed; all of them before any comes again."""
    every = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    random = np.random.default_rng(seed)
    order: list[int] = []
    while len(order) < count:
        order += random.permutation(len(every)).tolist()
    return [every[number] for number in order[:count]]


def _typical(run: RunData, number: int, centre: npt.NDArray[np.float64]) -> int:
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
