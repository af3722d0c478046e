"""Data sets that torchvision reads and can download."""

from __future__ import annotations

from openset_core import DataRequest, ImageSet, NoOptions
from openset_core.data.images import missing_data
from openset_core.errors import DataError

_MNIST_FILES = tuple(
    f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")
)


def load_mnist(_config: NoOptions, request: DataRequest) -> ImageSet:
    """Load MNIST's training or test part from `<root>/MNIST/raw`.

    Raises:
        DataError: the files are missing, damaged, or cannot be fetched.
    """
    import numpy as np
    from torchvision.datasets import MNIST

    folder = request.root / "MNIST" / "raw"
    try:
        data = MNIST(request.root, train=request.part == "train", download=request.download)
    # What torchvision raises for a damaged file depends on where the damage lies.
    except (RuntimeError, OSError, ValueError, TypeError, LookupError, AssertionError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if all((folder / name).exists() for name in _MNIST_FILES):
            raise DataError(
                f"data set mnist in {folder} is damaged ({reason}); delete that folder and fetch "
                "it again with --download"
            ) from error
        if request.download:
            raise DataError(f"data set mnist cannot be downloaded to {folder}: {reason}") from error
        raise missing_data("mnist", folder, can_download=True) from error
    return ImageSet(
        images=data.data.numpy()[..., None],
        labels=data.targets.numpy().astype(np.int64),
        classes=tuple(str(digit) for digit in range(10)),
    )
