"""The data set: four shapes, drawn at random places."""

from __future__ import annotations

import numpy as np

from openset_core import DataRequest, ImageSet
from openset_example import DataOptions

SIDE = 16
NAMES = ("bar", "cross", "frame", "disc")


def load(config: DataOptions, request: DataRequest) -> ImageSet:
    """Draw a part; each has a seed of its own."""
    draw = np.random.default_rng({"train": 1, "test": 2}[request.part])
    labels = np.repeat(np.arange(len(NAMES), dtype=np.int64), config.count)
    images = draw.integers(0, 60, (len(labels), SIDE, SIDE, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = draw.integers(0, SIDE - 9, 2)
        image[top : top + 9, left : left + 9, 0][_shape(int(label))] += 180
    return ImageSet(images=images, labels=labels, classes=NAMES)


def _shape(label: int) -> np.ndarray:
    rows, columns = np.mgrid[-4:5, -4:5]
    return (
        np.abs(columns) <= 1,
        (np.abs(columns) <= 1) | (np.abs(rows) <= 1),
        np.maximum(np.abs(rows), np.abs(columns)) >= 3,
        rows**2 + columns**2 <= 16,
    )[label]
