"""Made unknown sets: noise, and MNIST's test images under noise (M2IOSR Sec. 5.4, after CROSR)."""

from __future__ import annotations

import numpy as np

from openset_core import DataRequest, ImageSet, NoOptions
from openset_plugins.datasets import NoiseOptions
from openset_plugins.datasets.torchvision_sets import load_mnist


def _uniform(shape: tuple[int, ...], seed: int) -> np.ndarray:
    # NumPy keeps the stream of RandomState the same for ever.
    return np.random.RandomState(seed).randint(0, 256, shape, dtype=np.uint8)


def load_noise(config: NoiseOptions, request: DataRequest) -> ImageSet:
    """Grey images, each pixel independently uniform in [0, 1]."""
    side = request.size or 28
    images = _uniform((config.samples, side, side, 1), config.seed)
    return ImageSet(images=images, labels=np.zeros(len(images), np.int64), classes=("noise",))


def load_mnist_noise(config: NoiseOptions, request: DataRequest) -> ImageSet:
    """MNIST's test images with uniform noise where it is brighter than the digit.

    The papers say no more than that noise is added to the test images: taking the brighter of
    both keeps the digit legible and the range.
    """
    test = DataRequest(part="test", root=request.root, download=request.download)
    chosen = load_mnist(NoOptions(), test).images[: config.samples]
    images = np.maximum(chosen, _uniform(chosen.shape, config.seed))
    labels = np.zeros(len(images), np.int64)
    return ImageSet(images=images, labels=labels, classes=("digits under noise",))
