"""Image sets in memory, and how they are brought to a protocol's size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import numpy as np
import numpy.typing as npt

from openset_core import config
from openset_core.errors import DataError
from openset_core.plugins import Registry, registry

if TYPE_CHECKING:
    from openset_core.data.folders import ImageFiles

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


def _shape(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"


def load_images(
    name: str,
    part: str,
    root: Path,
    download: bool = False,
    plugins: Registry | None = None,
    options: Mapping[str, Any] | None = None,
    size: int | None = None,
    interpolation: str = "bilinear",
) -> ImageSet:
    """Load one part of a data set by name.

    Args:
        name: the data set.
        part: one of its parts.
        root: folder that holds data sets.
        download: whether missing data may be fetched.
        plugins: where data sets are looked up.
        options: the data set's own options.
        size: side length the images are wanted in, see `DataRequest`.
        interpolation: how they are resized.

    Raises:
        DataError: the data is missing or damaged.
        PluginError: no such data set.
    """
    request = DataRequest(
        part=part, root=root, download=download, size=size, interpolation=interpolation
    )
    found = request_images(name, request, plugins, options)
    if not isinstance(found, ImageSet):
        raise DataError(f"data set {name} must return an ImageSet, not {type(found).__name__}")
    return found


def request_images(
    name: str,
    request: DataRequest,
    plugins: Registry | None = None,
    options: Mapping[str, Any] | None = None,
) -> ImageSet | ImageFiles:
    """Ask a data set for one part; image files only where the request takes them.

    Args:
        name: the data set.
        request: what is asked for.
        plugins: where data sets are looked up.
        options: the data set's own options.

    Raises:
        DataError: the data is missing or damaged.
        PluginError: no such data set.
    """
    from openset_core.data.folders import ImageFiles

    found = (plugins or registry()).find(name, ("dataset",))
    if request.part not in found.spec.parts:
        raise DataError(
            f"data set {name} has parts {', '.join(found.spec.parts)}, not {request.part!r}"
        )
    factory = found.load()
    images = factory(config.structure(dict(options or {}), found.spec.config, name), request)
    if not isinstance(images, ImageSet | ImageFiles):
        raise DataError(f"data set {name} must return an ImageSet, not {type(images).__name__}")
    if not len(images):
        raise DataError(f"data set {name} has no images in part {request.part!r}")
    return images


def is_present(
    name: str,
    root: Path,
    options: Mapping[str, Any] | None = None,
    plugins: Registry | None = None,
    part: str | None = None,
) -> bool:
    """Whether a data set's files are below `root`, as its spec lists them; nothing is read.

    Args:
        name: the data set.
        root: folder that holds data sets.
        options: the data set's own options.
        plugins: where data sets are looked up.
        part: only what this part needs.

    Raises:
        PluginError: no such data set.
    """
    return not missing_files(name, root, options, plugins, part)


def missing_files(
    name: str,
    root: Path,
    options: Mapping[str, Any] | None = None,
    plugins: Registry | None = None,
    part: str | None = None,
) -> list[Path]:
    """The patterns of a data set's files, see `DatasetSpec.files`, that match nothing.

    Arguments as for `is_present`.

    Raises:
        PluginError: no such data set.
    """
    spec = (plugins or registry()).find(name, ("dataset",)).spec
    chosen = config.unstructure(config.structure(dict(options or {}), spec.config, name))
    # A pattern may be absolute.
    patterns = [root / pattern.format(**chosen) for pattern in spec.files_of(part)]
    return [pattern for pattern in patterns if not _matches(pattern.absolute())]


def _matches(pattern: Path) -> bool:
    return any(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))


def missing_data(name: str, folder: Path, can_download: bool) -> DataError:
    """The error of a data set that is not there; data set plugins raise it."""
    advice = f"set ${ROOT_VARIABLE} or --data-root to the folder that holds it"
    if can_download:
        advice += ", or add --download to fetch it"
    return DataError(f"data set {name} is not in {folder}; {advice}")
