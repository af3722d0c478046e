"""Data sets that torchvision reads and can download."""

from __future__ import annotations

from openset_core import DataRequest, ImageSet, NoOptions
from openset_core.data.images import missing_data
from openset_core.errors import DataError


def load_mnist(_config: NoOptions, request: DataRequest) -> ImageSet:
    """Load MNIST's training or test part from `<root>/MNIST/raw`."""
    import numpy as np
    from torchvision.datasets import MNIST

    try:
        data = MNIST(request.root, train=request.part == "train", download=request.download)
    except RuntimeError as error:
        if request.download:
            raise DataError(f"data set mnist cannot be downloaded: {error}") from error
        raise missing_data("mnist", request.root / "MNIST" / "raw", can_download=True) from error
    except (OSError, ValueError, EOFError, KeyError, AssertionError) as error:
        raise DataError(
            f"data set mnist in {request.root / 'MNIST' / 'raw'} cannot be read: {error}"
        ) from error
    return ImageSet(
        images=data.data.numpy()[..., None],
        labels=data.targets.numpy().astype(np.int64),
        classes=tuple(str(digit) for digit in range(10)),
    )
