"""What data sets give: labelled images in memory; and where data sets lie."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.errors import DataError

ROOT_VARIABLE = "OPENSET_DATA"
DEFAULT_ROOT = Path("data")


def data_root(root: str | Path | None = None) -> Path:
    """Folder that holds data sets: the argument, else $OPENSET_DATA, else `./data`."""
    return Path(root or os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT).expanduser()


@attrs.frozen(kw_only=True)
class DataRequest:
    """What a data set's factory is asked for.

    Attributes:
        part: one of the spec's `parts`.
        root: folder that holds data sets.
        download: whether missing data may be fetched.
        size: side length in pixels that the images are wanted in; a set whose images differ in
            size, or are large, comes in it; others may ignore it.
        interpolation: `"nearest"`, `"bilinear"` or `"bicubic"`, for that.
        fit: how an image that is not square becomes so, `"crop"` or `"stretch"`.
        lazily: whether a set of image files may come as `ImageFiles`, to be read when needed;
            others may ignore it.
    """

    part: str
    root: Path
    download: bool = False
    size: int | None = None
    interpolation: str = "bilinear"
    fit: str = "crop"
    lazily: bool = False


class Images(Protocol):
    """Labelled images, wherever they are kept: what splits and loaders need of them."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """int64 [N]."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""

    def __len__(self) -> int: ...

    def fingerprint(self) -> str:
        """Hash of pixels and labels."""

    def gather(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Some images, uint8 [n, H, W, C]; threads may call it at the same time."""


@attrs.frozen(kw_only=True)
class ImageSet:
    """Labelled images, held in memory.

    Attributes:
        images: uint8 [N, H, W, C] with C = 1 or 3.
        labels: int64 [N].
        classes: class names in label order.
    """

    images: npt.NDArray[np.uint8] = attrs.field(eq=False, repr=False)
    labels: npt.NDArray[np.int64] = attrs.field(eq=False, repr=False)
    classes: tuple[str, ...]

    def __attrs_post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise DataError(f"images must be uint8 [N, H, W, C], not {_shape(self.images)}")
        if self.images.shape[3] not in (1, 3):
            raise DataError(f"images must have 1 or 3 channels, not {self.images.shape[3]}")
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataError(f"labels must be int64 [N], not {_shape(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Some images, uint8 [n, H, W, C]."""
        return self.images[rows]

    def fingerprint(self) -> str:
        """Hash of pixels and labels."""
        digest = hashlib.sha256(repr((self.images.shape, self.classes)).encode())
        for array in (self.images, self.labels):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def pixel_digest(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Hash of an image's shape and pixels, 16 bytes."""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _shape(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"


def missing_data(name: str, folder: Path, can_download: bool) -> DataError:
    """The error of a data set that is not there; data set plugins raise it."""
    advice = f"set ${ROOT_VARIABLE} or --data-root to the folder that holds it"
    if can_download:
        advice += ", or add --download to fetch it"
    return DataError(f"data set {name} is not in {folder}; {advice}")
