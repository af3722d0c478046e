"""Predictions for many image files: found, read ahead in threads, judged in batches."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import attrs
from torch import Tensor

from openset_core.data.inference_input import inference_input
from openset_core.data.reading import image_files
from openset_core.errors import DataError
from openset_core.experiment.protocol import ImageOptions
from openset_core.inference.trained_model import BATCH_SIZE, TrainedModel

READERS = min(8, (os.cpu_count() or 1) + 1)


@attrs.frozen(kw_only=True)
class FilePrediction:
    """What the model says of one file.

    Attributes:
        path: the file, as it was named.
        label: name of a known class, or `"unknown"`.
        unknown: whether it is rejected.
        score: how unknown, higher = more unknown.
        top: the likeliest known classes with their probabilities, best first.
    """

    path: str
    label: str
    unknown: bool
    score: float
    top: tuple[tuple[str, float], ...]


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
    """Predict file by file, in order among the readable ones; bad files do not stop it.

    Args:
        model: the model.
        names: files, as `find_files` gives them.
        scorer: as for `TrainedModel.predict`.
        threshold: as for `TrainedModel.predict`.
        top: how many classes to tell.
        batch_size: images that the network sees at once.

    Yields:
        A prediction for each file that can be read, and the others with their reasons.
    """
    held: list[tuple[str, Tensor]] = []

    def judged() -> Iterator[FilePrediction]:
        found = model.stream(
            (pixels for _name, pixels in held),
            scorer=scorer,
            threshold=threshold,
            batch_size=batch_size,
        )
        rows = ((batch, row) for batch in found for row in range(len(batch)))
        for (name, _pixels), (batch, row) in zip(held, rows, strict=True):
            yield FilePrediction(
                path=name,
                label=batch.labels[row],
                unknown=bool(batch.unknown[row]),
                score=float(batch.scores[row]),
                top=tuple(batch.top(row, top)),
            )
        held.clear()

    for name, pixels in _read_ahead(names, model.description.image, batch_size):
        if isinstance(pixels, UnreadableFile):
            yield pixels
            continue
        held.append((name, pixels))
        if len(held) == batch_size:
            yield from judged()
    if held:
        yield from judged()


def _read_ahead(
    names: Iterable[str | UnreadableFile], image: ImageOptions, ahead: int
) -> Iterator[tuple[str, Tensor | UnreadableFile]]:
    """Files in order, brought to the model's size, a batch ahead of who uses them."""

    def read(name: str | UnreadableFile) -> tuple[str, Tensor | UnreadableFile]:
        if isinstance(name, UnreadableFile):
            return name.path, name
        try:
            return name, inference_input(name, image)
        except DataError as error:
            return name, UnreadableFile(name, str(error))
        except MemoryError:
            return name, UnreadableFile(name, f"{name} does not fit into memory")

    source = iter(names)
    with ThreadPoolExecutor(READERS, "openset-reader") as pool:
        waiting: deque[Future[tuple[str, Tensor | UnreadableFile]]] = deque()
        try:
            for name in itertools.islice(source, ahead):
                waiting.append(pool.submit(read, name))
            while waiting:
                yield waiting.popleft().result()
                for name in itertools.islice(source, 1):
                    waiting.append(pool.submit(read, name))
        finally:
            for future in waiting:
                future.cancel()
