"""Image sets in memory, and how they are brought to a protocol's size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from openset_core import config
from openset_core.errors import DataError
from openset_core.plugins import Registry, registry

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
    """

    part: str
    root: Path
    download: bool = False


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
) -> ImageSet:
    """Load one part of a data set by name.

    Args:
        name: the data set.
        part: one of its parts.
        root: folder that holds data sets.
        download: whether missing data may be fetched.
        plugins: where data sets are looked up.
        options: the data set's own options.

    Raises:
        DataError: the data is missing or damaged.
        PluginError: no such data set.
    """
    found = (plugins or registry()).find(name, ("dataset",))
    if part not in found.spec.parts:
        raise DataError(f"data set {name} has parts {', '.join(found.spec.parts)}, not {part!r}")
    factory = found.load()
    chosen = config.structure(dict(options or {}), found.spec.config, name)
    image_set = factory(chosen, DataRequest(part=part, root=root, download=download))
    if not isinstance(image_set, ImageSet):
        raise DataError(f"data set {name} must return an ImageSet, not {type(image_set).__name__}")
    if not len(image_set):
        raise DataError(f"data set {name} has no images in part {part!r}")
    return image_set


def is_present(
    name: str,
    root: Path,
    options: Mapping[str, Any] | None = None,
    plugins: Registry | None = None,
) -> bool:
    """Whether a data set's files are below `root`, as its spec lists them; nothing is read.

    Raises:
        PluginError: no such data set.
    """
    spec = (plugins or registry()).find(name, ("dataset",)).spec
    chosen = config.unstructure(config.structure(dict(options or {}), spec.config, name))
    return all(any(root.glob(pattern.format(**chosen))) for pattern in spec.files)


def missing_data(name: str, folder: Path, can_download: bool) -> DataError:
    """The error of a data set that is not there; data set plugins raise it."""
    advice = f"set ${ROOT_VARIABLE} or --data-root to the folder that holds it"
    if can_download:
        advice += ", or add --download to fetch it"
    return DataError(f"data set {name} is not in {folder}; {advice}")
