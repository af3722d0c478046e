"""Data sets by name: asked for their images, and whether their files are there."""

from __future__ import annotations

import glob
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
    """Ask a data set for one split; image files only where the request takes them."""
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
    """The patterns of files, of a data set or a split, that match nothing; [] where it is there."""
    spec = (plugins or registry()).find(name, ("dataset",)).spec
    values = config.unstructure(config.structure(dict(options or {}), spec.config, name))
    # A pattern may be absolute.
    patterns = [root / pattern.format(**values) for pattern in spec.files_of(split)]
    return [pattern for pattern in patterns if not any(glob.iglob(str(pattern)))]
