"""Generated samples of a finished training: kept, since the generator is not.

samples.h5    attrs: format; images uint8 [N, H, W, C]
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from openset_core.errors import RunFolderError
from openset_core.files import atomic_write

FORMAT = "openset-samples-1"
COUNT = 512  # samples that a run keeps

Pixels = npt.NDArray[np.uint8]


def write_samples(path: Path, images: Pixels) -> None:
    """Keep generated images, uint8 [N, H, W, C]."""
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.create_dataset("images", data=images, compression="gzip", fletcher32=True)


def read_samples(path: Path) -> Pixels | None:
    """Generated images that a run kept, uint8 [N, H, W, C]; None where there are none."""
    if not path.exists():
        return None
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") == FORMAT:
                images: Pixels = file["images"][:]
                return images
    except (OSError, KeyError, RuntimeError) as error:
        raise RunFolderError(f"{path} is damaged; delete it") from error
    raise RunFolderError(f"{path} was not written by this version of openset; delete it")
