"""Data sets by name: asked for their images, and whether their files are there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openset_core.data.folders import ImageFiles
from openset_core.data.images import DataRequest, ImageSet
from openset_core.errors import DataError
from openset_core.experiment import config
from openset_core.registry import Registry, registry


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
