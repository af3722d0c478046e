"""Data sets that torchvision reads and can download, one line each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import frozen

from openset_core import DataRequest, ImageSet, NoOptions
from openset_core.data.images import missing_data
from openset_core.errors import DataError


@frozen(kw_only=True)
class TorchvisionSet:
    """How one of torchvision's sets is loaded.

    Attributes:
        name: its name here.
        cls: torchvision's class.
        folder: where its files lie below the data root.
        files: files that must be there, whole or packed; tell damaged data from missing data.
        labels: attribute that holds the labels.
        arguments: what the class is called with for a part.
    """

    name: str
    cls: str
    folder: str
    files: tuple[str, ...]
    labels: str = "targets"
    arguments: Callable[[str], dict[str, Any]] = lambda part: {"train": part == "train"}


_IDX = tuple(
    f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
)
_SETS = {
    item.name: item
    for item in (
        TorchvisionSet(name="mnist", cls="MNIST", folder="MNIST/raw", files=_IDX),
        TorchvisionSet(
            name="fashion-mnist", cls="FashionMNIST", folder="FashionMNIST/raw", files=_IDX
        ),
        TorchvisionSet(name="kmnist", cls="KMNIST", folder="KMNIST/raw", files=_IDX),
        TorchvisionSet(
            name="svhn",
            cls="SVHN",
            folder="",
            files=("train_32x32.mat", "test_32x32.mat"),
            labels="labels",
            arguments=lambda part: {"split": part},
        ),
    )
}


def _load(item: TorchvisionSet, request: DataRequest) -> ImageSet:
    """Load one part.

    Raises:
        DataError: the files are missing, damaged, or cannot be fetched.
    """
    import numpy as np
    from torchvision import datasets

    folder = request.root / item.folder
    try:
        data = getattr(datasets, item.cls)(
            request.root, download=request.download, **item.arguments(request.part)
        )
    # What torchvision raises for a damaged file depends on where the damage lies.
    except (RuntimeError, OSError, ValueError, TypeError, LookupError, AssertionError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if all((folder / name).exists() for name in item.files):
            raise DataError(
                f"data set {item.name} in {folder} is damaged ({reason}); delete that folder and "
                "fetch it again with --download"
                if item.folder
                else f"data set {item.name} in {folder} is damaged ({reason}); delete "
                f"{' and '.join(item.files)} and fetch them again with --download"
            ) from error
        if request.download:
            raise DataError(
                f"data set {item.name} cannot be downloaded to {folder}: {reason}"
            ) from error
        raise missing_data(item.name, folder, can_download=True) from error
    images = np.asarray(data.data)
    if images.ndim == 3:
        images = images[..., None]
    elif images.shape[1] in (1, 3):
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return ImageSet(
        images=images,
        labels=np.asarray(getattr(data, item.labels)).astype(np.int64),
        classes=tuple(getattr(data, "classes", None) or map(str, range(10))),
    )


def load_mnist(_config: NoOptions, request: DataRequest) -> ImageSet:
    """MNIST's training or test part, from `<root>/MNIST/raw`; its classes are called 0 to 9."""
    import attrs

    loaded = _load(_SETS["mnist"], request)
    return attrs.evolve(loaded, classes=tuple(map(str, range(10))))


def load_fashion_mnist(_config: NoOptions, request: DataRequest) -> ImageSet:
    """Fashion-MNIST's training or test part, from `<root>/FashionMNIST/raw`."""
    return _load(_SETS["fashion-mnist"], request)


def load_kmnist(_config: NoOptions, request: DataRequest) -> ImageSet:
    """Kuzushiji-MNIST's training or test part, from `<root>/KMNIST/raw`."""
    return _load(_SETS["kmnist"], request)


def load_svhn(_config: NoOptions, request: DataRequest) -> ImageSet:
    """SVHN's training or test part, from `<root>/train_32x32.mat` and `test_32x32.mat`."""
    return _load(_SETS["svhn"], request)


def fetch(name: str, request: DataRequest, target: Path, **archive: Any) -> None:
    """Download and unpack an archive that torchvision knows, checked by its hash.

    Raises:
        DataError: not allowed, or it cannot be fetched.
    """
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
