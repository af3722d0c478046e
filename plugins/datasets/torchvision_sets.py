"""Data sets that torchvision reads and can download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openset_core import DataRequest, ImageSet, NoOptions
from openset_core.data.images import missing_data
from openset_core.errors import DataError
from openset_plugins.datasets import DIGITS, IDX_FILES


def _load(
    name: str,
    cls: str,
    request: DataRequest,
    folder: str,
    files: Sequence[str],
    classes: Sequence[str] | None = None,
    **split: Any,
) -> ImageSet:
    """A split by torchvision's class `cls`, which calls it `split`, from below the data root.

    `files` must be there, which tells damaged data from missing data; `classes` are torchvision's
    own names when None.
    """
    from torchvision import datasets

    place = request.root / folder
    try:
        data = getattr(datasets, cls)(request.root, download=request.download, **split)
    # What torchvision raises for a damaged file depends on where the damage lies.
    except (RuntimeError, OSError, ValueError, TypeError, LookupError, AssertionError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if all((place / file).exists() for file in files):
            gone = "that folder" if folder else " and ".join(files)
            raise DataError(
                f"data set {name} in {place} is damaged ({reason}); delete {gone} and fetch it "
                "again with --download"
            ) from error
        if request.download:
            raise DataError(f"data set {name} cannot be downloaded to {place}: {reason}") from error
        raise missing_data(name, place, can_download=True) from error
    images = np.asarray(data.data)
    if images.ndim == 3:
        images = images[..., None]
    elif images.shape[1] in (1, 3):
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    labels = data.labels if hasattr(data, "labels") else data.targets
    return ImageSet(
        images=images,
        labels=np.asarray(labels).astype(np.int64),
        classes=tuple(classes or data.classes),
    )


def _load_idx(
    name: str, cls: str, request: DataRequest, classes: Sequence[str] | None = None
) -> ImageSet:
    """A set in the format of MNIST's files, from `<root>/<cls>/raw`."""
    train = request.part == "train"
    return _load(name, cls, request, f"{cls}/raw", IDX_FILES, classes, train=train)


def load_mnist(_config: NoOptions, request: DataRequest) -> ImageSet:
    return _load_idx("mnist", "MNIST", request, DIGITS)


def load_fashion_mnist(_config: NoOptions, request: DataRequest) -> ImageSet:
    return _load_idx("fashion-mnist", "FashionMNIST", request)


def load_kmnist(_config: NoOptions, request: DataRequest) -> ImageSet:
    return _load_idx("kmnist", "KMNIST", request)


def load_svhn(_config: NoOptions, request: DataRequest) -> ImageSet:
    files = ("train_32x32.mat", "test_32x32.mat")
    return _load("svhn", "SVHN", request, "", files, DIGITS, split=request.part)


def fetch(name: str, request: DataRequest, target: Path, **archive: Any) -> None:
    """Download and unpack an archive that torchvision knows, checked by its hash."""
    from torchvision.datasets.utils import download_and_extract_archive

    if not request.download:
        raise missing_data(name, target, can_download=True)
    try:
        download_and_extract_archive(download_root=str(request.root), **archive)
    except (RuntimeError, OSError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"data set {name} cannot be downloaded to {request.root}: {reason}"
        ) from error
