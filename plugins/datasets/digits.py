"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

import numpy as np

from openset_core import DataRequest, ImageSet, NoOptions


def load_digits(_config: NoOptions, _request: DataRequest) -> ImageSet:
    """Load all 1,797 digits, grey, 8x8, scaled from 0..16 to 0..255."""
    from sklearn.datasets import load_digits as load

    bunch = load()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    names = tuple(str(name) for name in bunch.target_names)
    return ImageSet(images=images, labels=bunch.target.astype(np.int64), classes=names)
