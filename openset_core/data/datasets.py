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


def request_images(
    name: str,
    request: DataRequest,
    plugins: Registry | None = None,
    options: Mapping[str, Any] | None = None,
) -> ImageSet | ImageFiles:
    """Ask a data set for one split; image files only where the request takes them.

    Args:
        name: the data set.
        request: what is asked for.
        plugins: where data sets are looked up.
        options: the data set's own options.

    Raises:
        DataError: the data is missing or damaged.
        PluginError: no such data set.
    """
    dataset = (plugins or registry()).find(name, ("dataset",))
    if request.part not in dataset.spec.parts:
        raise DataError(
            f"data set {name} has splits {', '.join(dataset.spec.parts)}, not {request.part!r}"
        )
    factory = dataset.load()
    images = factory(config.structure(dict(options or {}), dataset.spec.config, name), request)
    if not isinstance(images, ImageSet | ImageFiles if request.lazily else ImageSet):
        raise DataError(f"data set {name} must return an ImageSet, not {type(images).__name__}")
    if not len(images):
        raise DataError(f"data set {name} has no images in split {request.part!r}")
    return images  # type: ignore[no-any-return]


def missing_files(
    name: str,
    root: Path,
    options: Mapping[str, Any] | None = None,
    plugins: Registry | None = None,
    split: str | None = None,
) -> list[Path]:
    """The patterns of a data set's files, see `DatasetSpec.files`, that match nothing.

    Nothing is read; an empty list says that the data set is there.

    Args:
        name: the data set.
        root: folder that holds data sets.
        options: the data set's own options.
        plugins: where data sets are looked up.
        split: only what this split needs.

    Raises:
        PluginError: no such data set.
    """
    spec = (plugins or registry()).find(name, ("dataset",)).spec
    values = config.unstructure(config.structure(dict(options or {}), spec.config, name))
    # A pattern may be absolute.
    patterns = [root / pattern.format(**values) for pattern in spec.files_of(split)]
    return [pattern for pattern in patterns if not _matches(pattern.absolute())]


def _matches(pattern: Path) -> bool:
    return any(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))
