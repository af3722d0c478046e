"""Predictions for many image files, read ahead in threads and predicted in batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import attrs
from torch import Tensor

from openset_core.data.inference_input import inference_input
from openset_core.data.prefetch import prefetch
from openset_core.data.reading import image_files
from openset_core.errors import DataError
from openset_core.experiment.protocol import ImageOptions
from openset_core.inference.trained_model import BATCH_SIZE, TrainedModel


@attrs.frozen(kw_only=True)
class FilePrediction:
    """The prediction of one file, named as it was asked for."""

    path: str
    label: str  # of a known class, or "unknown"
    unknown: bool
    score: float  # higher = more unknown
    top: tuple[tuple[str, float], ...]  # the likeliest known classes, best first


@attrs.frozen
class UnreadableFile:
    """A file that gave no prediction, and why, in one sentence."""

    path: str
    reason: str


def find_files(names: Iterable[str]) -> Iterator[str | UnreadableFile]:
    """Files as they were named, and the image files in folders that were named.

    A folder without an image file counts as unreadable.
    """
    for name in names:
        if not os.path.isdir(name):
            yield name
            continue
        empty = True
        try:
            for path in image_files(Path(name)):
                empty = False
                yield str(path)
        except DataError as error:
            yield UnreadableFile(name, str(error))
            continue
        if empty:
            yield UnreadableFile(name, f"{name} is a folder without image files")


def predict_files(
    model: TrainedModel,
    names: Iterable[str | UnreadableFile],
    *,
    scorer: str | None = None,
    threshold: float | None = None,
    top: int = 3,
    batch_size: int = BATCH_SIZE,
) -> Iterator[FilePrediction | UnreadableFile]:
    """Predict file by file, in order among the readable ones; bad files do not stop it."""
    batch: list[tuple[str, Tensor]] = []

    def predictions() -> Iterator[FilePrediction]:
        images = (pixels for _name, pixels in batch)
        pieces = model.stream(images, scorer=scorer, threshold=threshold, batch_size=batch_size)
        rows = ((piece, row) for piece in pieces for row in range(len(piece)))
        for (name, _pixels), (piece, row) in zip(batch, rows, strict=True):
            yield FilePrediction(
                path=name,
                label=piece.labels[row],
                unknown=bool(piece.unknown[row]),
                score=float(piece.scores[row]),
                top=tuple(piece.top(row, top)),
            )
        batch.clear()

    read = partial(_read, image=model.description.image)
    for name, pixels in prefetch(read, names, batch_size):
        if isinstance(pixels, UnreadableFile):
            yield pixels
            continue
        batch.append((name, pixels))
        if len(batch) == batch_size:
            yield from predictions()
    if batch:
        yield from predictions()


def _read(name: str | UnreadableFile, image: ImageOptions) -> tuple[str, Tensor | UnreadableFile]:
    if isinstance(name, UnreadableFile):
        return name.path, name
    try:
        return name, inference_input(name, image)
    except DataError as error:
        return name, UnreadableFile(name, str(error))
    except MemoryError:
        return name, UnreadableFile(name, f"{name} does not fit into memory")
