"""Image sets in a fast local form, streamed instead of held in memory; `conversion` makes it.

A prepared part is a folder `<data root>/prepared/<name>-<part>-<size>/` with

- `images.raw`: uint8 [N, size, size, C], or `images.packed`: JPEG or PNG files one after the
  other, with `offsets.npy`, int64 [N + 1];
- `labels.npy`, int64 [N], and `index.npy`, int64 [N], the row of each image in its source;
- `meta.toml`: what it is, and what it was made from.

It appears whole or not at all. Nothing in it is executed when it is read.
"""

from __future__ import annotations

import hashlib
import io
import re
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.data.datasets import is_present, request_images
from openset_core.data.folders import ImageFiles, in_memory
from openset_core.data.images import DataRequest, Images, data_root
from openset_core.errors import DataError
from openset_core.experiment import config
from openset_core.registry import Registry, registry

FORMAT = 1
ENCODINGS = ("raw", "jpeg", "png")
PIXEL_FILES = {True: "images.raw", False: "images.packed"}
"""The file of pixels, by whether they are plain."""

MEMORY_LIMIT = 4 * 2**30
"""Bytes of pixels beyond which a set of files must be prepared before it is used."""

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


@attrs.frozen(kw_only=True)
class PreparedMeta:
    """What `meta.toml` says.

    Attributes:
        format: version of the folder's layout.
        dataset: name of the data set.
        part: its part.
        options: the data set's options.
        size: side length in pixels.
        interpolation: how images were resized.
        encoding: `"raw"`, `"jpeg"` or `"png"`.
        images: number of images.
        channels: 1 or 3.
        classes: class names in label order.
        source: fingerprint of what it was made from.
        content: fingerprint of what is in it.
        skipped: files that could not be read.
        versions: of openset, Pillow and NumPy at the time.
    """

    format: int
    dataset: str
    part: str
    options: dict[str, Any] = attrs.field(factory=dict)
    size: int
    interpolation: str
    encoding: str = attrs.field(validator=attrs.validators.in_(ENCODINGS))
    images: int
    channels: int
    classes: tuple[str, ...]
    source: str
    content: str
    skipped: tuple[str, ...] = ()
    versions: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class PreparedImages:
    """Labelled images read from a prepared folder when they are asked for.

    Attributes:
        folder: the prepared folder.
        meta: what it says about itself.
        labels: int64 [N].
        command: what makes it again.
    """

    folder: Path
    meta: PreparedMeta
    labels: Rows = attrs.field(repr=False)
    command: str = attrs.field(repr=False)
    _data: Pixels = attrs.field(repr=False)
    _offsets: Rows | None = attrs.field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return self.meta.classes

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """Hash of pixels and labels, taken when the folder was written."""
        return self.meta.content

    def gather(self, rows: Rows) -> Pixels:
        """Some images, uint8 [n, H, W, C]; threads may call it at the same time.

        Raises:
            DataError: an image is damaged.
        """
        if self._offsets is None:
            return np.asarray(self._data[rows])
        shape = (self.meta.size, self.meta.size, self.meta.channels)
        found = np.empty((len(rows), *shape), np.uint8)
        for position, row in enumerate(rows):
            found[position] = self._decoded(int(row), shape)
        return found

    def _decoded(self, row: int, shape: tuple[int, ...]) -> Pixels:
        from PIL import Image

        assert self._offsets is not None
        start, stop = int(self._offsets[row]), int(self._offsets[row + 1])
        try:
            with Image.open(io.BytesIO(self._data[start:stop].tobytes())) as image:
                return np.asarray(image, dtype=np.uint8).reshape(shape)
        # What a decoder raises for damaged contents depends on where the damage lies.
        except Exception as error:
            what = f"image {row} cannot be decoded"
            raise _damaged(self.folder, what, self.command) from error


# --- reading ----------------------------------------------------------------------------------


def prepared_folder(
    root: Path,
    name: str,
    part: str,
    size: int,
    options: Mapping[str, Any] | None = None,
    interpolation: str = "bilinear",
    fit: str | None = None,
) -> Path:
    """Where the prepared form of a part lies; its name tells how it differs from the usual.

    Args:
        root: folder that holds data sets.
        name: the data set.
        part: one of its parts.
        size: side length in pixels.
        options: the data set's options that differ from its defaults.
        interpolation: how images are resized.
        fit: how images become square, `"crop"` when None.
    """
    label = f"{name}-{part}-{size}"
    if interpolation != "bilinear":
        label += f"-{interpolation}"
    if fit not in (None, "crop"):
        label += f"-{fit}"
    for key, value in sorted((options or {}).items()):
        text = str(value)
        if not re.fullmatch(r"[\w.+-]{1,40}", text):
            text = hashlib.sha256(text.encode()).hexdigest()[:12]
        label += f"-{key}={text}"
    return root / "prepared" / label


def own_options(
    name: str, options: Mapping[str, Any] | None, plugins: Registry | None = None
) -> dict[str, Any]:
    """Options of a data set that differ from its defaults, so that naming a default says nothing.

    Raises:
        ConfigError: an unknown option or a value out of range.
        PluginError: no such data set.
    """
    spec = (plugins or registry()).find(name, ("dataset",)).spec
    chosen = config.unstructure(config.structure(dict(options or {}), spec.config, name))
    usual = config.unstructure(spec.config())
    return {key: value for key, value in chosen.items() if value != usual.get(key)}


def is_available(
    name: str,
    part: str,
    root: Path,
    size: int,
    interpolation: str = "bilinear",
    plugins: Registry | None = None,
    options: Mapping[str, Any] | None = None,
    fit: str | None = None,
) -> bool:
    """Whether `open_images` would find a part, prepared or as it is; nothing is read.

    Arguments as for `open_images`.

    Raises:
        PluginError: no such data set.
    """
    prepared = prepared_folder(
        root, name, part, size, own_options(name, options, plugins), interpolation, fit
    )
    return prepared.is_dir() or is_present(name, root, options, plugins, part)


def open_prepared(folder: Path, command: str = "openset data prepare NAME") -> PreparedImages:
    """Open a prepared folder; pixels are read when they are asked for.

    Args:
        folder: the prepared folder.
        command: what makes it again, for errors.

    Raises:
        DataError: damaged, or written by another version of openset.
    """
    try:
        values = tomllib.loads((folder / "meta.toml").read_text(encoding="utf-8"))
        if values.get("format") != FORMAT:
            raise DataError(
                f"{folder} has format {values.get('format')}, this openset reads {FORMAT}; make it "
                f"again with `{command}`"
            )
        meta = config.structure(values, PreparedMeta, "meta.toml", ValueError)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        raw = meta.encoding == "raw"
        offsets = None if raw else np.load(folder / "offsets.npy", allow_pickle=False)
        file = folder / PIXEL_FILES[raw]
        shape = (meta.images, meta.size, meta.size, meta.channels)
        expected = int(np.prod(shape)) if offsets is None else int(offsets[-1])
        if file.stat().st_size != expected:
            raise ValueError(f"{file.name} has not the length it should have")
        if len(labels) != meta.images or (offsets is not None and len(offsets) != meta.images + 1):
            raise ValueError(f"it does not hold {meta.images} images")
        data = np.memmap(file, np.uint8, "r", shape=shape if raw else (expected,))
    except FileNotFoundError as error:
        raise _damaged(folder, f"{Path(error.filename).name} is missing", command) from error
    except (OSError, ValueError, LookupError) as error:
        raise _damaged(folder, str(error).splitlines()[0], command) from error
    return PreparedImages(
        folder=folder, meta=meta, labels=labels, command=command, data=data, offsets=offsets
    )


def _damaged(folder: Path, what: str, command: str) -> DataError:
    return DataError(
        f"prepared data in {folder} is damaged ({what}); make it again with `{command}`"
    )


def prepare_command(
    name: str,
    size: int,
    root: Path,
    *,
    part: str | None = None,
    interpolation: str = "bilinear",
    fit: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> str:
    """The command that makes a prepared form, for errors; arguments as for `open_images`."""
    words = ["openset data prepare", name, f"--size {size}"]
    words += [f"--part {part}"] if part else []
    words += [f"--interpolation {interpolation}"] if interpolation != "bilinear" else []
    words += [f"--fit {fit}"] if fit not in (None, "crop") else []
    words += [f"--set {key}={value}" for key, value in (options or {}).items()]
    words += [f"--data-root {root}"] if root != data_root() else []
    return " ".join(words)


def open_images(
    name: str,
    part: str,
    root: Path,
    size: int,
    interpolation: str = "bilinear",
    download: bool = False,
    plugins: Registry | None = None,
    options: Mapping[str, Any] | None = None,
    fit: str | None = None,
) -> Images:
    """A part of a data set for training at a size: the prepared form where there is one.

    Args:
        name: the data set.
        part: one of its parts.
        root: folder that holds data sets.
        size: side length the images are wanted in.
        interpolation: how they are resized.
        download: whether missing data may be fetched.
        plugins: where data sets are looked up.
        options: the data set's own options.
        fit: how images become square, `"crop"` when None.

    Raises:
        DataError: the data is missing, damaged, or too large to be read at once.
        PluginError: no such data set.
    """
    folder = prepared_folder(
        root, name, part, size, own_options(name, options, plugins), interpolation, fit
    )
    command = partial(
        prepare_command, name, size, root, interpolation=interpolation, fit=fit, options=options
    )
    if folder.is_dir():
        return open_prepared(folder, command(part=part))
    request = DataRequest(
        part=part,
        root=root,
        download=download,
        size=size,
        interpolation=interpolation,
        fit=fit or "crop",
        lazily=True,
    )
    source = request_images(name, request, plugins, options)
    needed = len(source) * size * size * 3
    if isinstance(source, ImageFiles) and needed > MEMORY_LIMIT:
        raise DataError(
            f"part {part} of data set {name} has {len(source):,} images, {sized(needed)} at "
            f"{size}x{size}, too much to hold in memory; convert it once with `{command()}`"
        )
    return in_memory(source)


def sized(count: int) -> str:
    """Bytes in words."""
    value, unit = float(count), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
