"""Image sets prepared on disk, streamed instead of held in memory; `conversion` writes them.

A prepared split is a folder `<data root>/prepared/<name>-<split>-<size>/` with

- `images.raw`: uint8 [N, size, size, C];
- `labels.npy`, int64 [N], and `index.npy`, int64 [N], the row of each image in its source;
- `meta.toml`: what it is, and what it was made from.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.data.datasets import missing_files, request_images
from openset_core.data.folders import ImageFiles, in_memory
from openset_core.data.image_format import ImageFormat
from openset_core.data.images import DataRequest, Images, ImageSet, data_root
from openset_core.errors import DataError
from openset_core.experiment import config
from openset_core.registry import Registry, registry

FORMAT = 1
ENCODING = "raw"
PIXEL_FILE = "images.raw"

MEMORY_LIMIT = 4 * 2**30
"""Bytes of pixels beyond which a set of files must be prepared before it is used."""

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


@attrs.frozen(kw_only=True)
class SplitSource:
    """A split of a data set in one format, and where its prepared form lies."""

    dataset: str
    split: str
    root: Path
    format: ImageFormat = attrs.field(factory=ImageFormat)
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=dict)
    plugins: Registry | None = None

    @property
    def folder(self) -> Path:
        """Folder of the prepared form; its name tells how it differs from the usual."""
        label = f"{self.dataset}-{self.split}-{self.format.size}"
        label += "".join(f"-{value}" for value in self._unusual_format().values())
        for key, value in sorted(self._changed_options().items()):
            text = str(value)
            if not re.fullmatch(r"[\w.+-]{1,40}", text):
                text = hashlib.sha256(text.encode()).hexdigest()[:12]
            label += f"-{key}={text}"
        return self.root / "prepared" / label

    def _unusual_format(self) -> dict[str, str]:
        usual = ImageFormat()
        values = {key: getattr(self.format, key) for key in ("interpolation", "fit")}
        return {key: value for key, value in values.items() if value != getattr(usual, key)}

    def _changed_options(self) -> dict[str, Any]:
        """Options that differ from the defaults, so that naming a default changes nothing."""
        if not self.options:
            return {}
        spec = (self.plugins or registry()).find(self.dataset, ("dataset",)).spec
        chosen = config.unstructure(config.structure(self.options, spec.config, self.dataset))
        usual = config.unstructure(spec.config())
        return {key: value for key, value in chosen.items() if value != usual.get(key)}

    def command(self, split: bool = True) -> str:
        """The command that makes the prepared form, of this split or of all, for errors."""
        words = ["openset data prepare", self.dataset, f"--size {self.format.size}"]
        words += [f"--part {self.split}"] if split else []
        words += [f"--{key} {value}" for key, value in self._unusual_format().items()]
        words += [f"--set {key}={value}" for key, value in self.options.items()]
        words += [f"--data-root {self.root}"] if self.root != data_root() else []
        return " ".join(words)

    def request(self, download: bool = False) -> ImageSet | ImageFiles:
        """The split as the data set gives it, image files unread."""
        request = DataRequest(
            part=self.split,
            root=self.root,
            download=download,
            lazily=True,
            **attrs.asdict(self.format),
        )
        return request_images(self.dataset, request, self.plugins, self.options)


@attrs.frozen(kw_only=True)
class PreparedMeta:
    """What `meta.toml` says."""

    format: int
    dataset: str
    part: str
    options: dict[str, Any] = attrs.field(factory=dict)
    size: int
    interpolation: str
    encoding: str  # older versions wrote "jpeg" or "png", too
    images: int
    channels: int
    classes: tuple[str, ...]
    source: str  # fingerprint of what it was made from
    content: str  # fingerprint of what is in it
    skipped: tuple[str, ...] = ()  # a sentence on each file that could not be read
    versions: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class PreparedImages:
    """`Images` read from a prepared folder when they are asked for."""

    folder: Path
    meta: PreparedMeta
    labels: Rows = attrs.field(repr=False)
    pixels: Pixels = attrs.field(repr=False)  # [N, size, size, C], mapped from the file

    @property
    def classes(self) -> tuple[str, ...]:
        return self.meta.classes

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        return self.meta.content

    def gather(self, rows: Rows) -> Pixels:
        return np.asarray(self.pixels[rows])


def open_prepared(folder: Path, command: str = "openset data prepare NAME") -> PreparedImages:
    """Open a prepared folder, reading no pixels; `command` makes it again, for errors."""
    again = f"prepare it again with `{command}`"
    try:
        values = tomllib.loads((folder / "meta.toml").read_text(encoding="utf-8"))
        if values.get("format") != FORMAT:
            raise DataError(
                f"{folder} has format {values.get('format')}, this openset reads {FORMAT}; {again}"
            )
        meta = config.structure(values, PreparedMeta, "meta.toml", ValueError)
        if meta.encoding != ENCODING:
            raise DataError(
                f"{folder} has the encoding {meta.encoding!r}, this openset reads plain pixels "
                f"({ENCODING}) only; {again}"
            )
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        shape = (meta.images, meta.size, meta.size, meta.channels)
        if (folder / PIXEL_FILE).stat().st_size != np.prod(shape):
            raise ValueError(f"{PIXEL_FILE} has not the length it should have")
        if len(labels) != meta.images:
            raise ValueError(f"it does not hold {meta.images} images")
        pixels = np.memmap(folder / PIXEL_FILE, np.uint8, "r", shape=shape)
    except (OSError, ValueError, LookupError) as error:
        what = str(error).splitlines()[0]
        if isinstance(error, FileNotFoundError):
            what = f"{Path(error.filename).name} is missing"
        raise DataError(f"prepared data in {folder} is damaged ({what}); {again}") from error
    return PreparedImages(folder=folder, meta=meta, labels=labels, pixels=pixels)


def is_available(source: SplitSource) -> bool:
    """Whether `open_images` would find a split, prepared or as it is; nothing is read."""
    return source.folder.is_dir() or not missing_files(
        source.dataset, source.root, source.options, source.plugins, source.split
    )


def open_images(source: SplitSource, download: bool = False) -> Images:
    """A split for training: the prepared form where there is one, else all images in memory."""
    if source.folder.is_dir():
        return open_prepared(source.folder, source.command())
    images, size = source.request(download), source.format.size
    needed = len(images) * size * size * 3
    if isinstance(images, ImageFiles) and needed > MEMORY_LIMIT:
        raise DataError(
            f"split {source.split} of data set {source.dataset} has {len(images):,} images, "
            f"{sized(needed)} at {size}x{size}, too much to hold in memory; convert it once with "
            f"`{source.command(split=False)}`"
        )
    return in_memory(images)


def sized(count: float) -> str:
    """Bytes in words: `1.5 GiB`."""
    power = min(4, max(0, int(count).bit_length() - 1) // 10)
    unit = ("bytes", "KiB", "MiB", "GiB", "TiB")[power]
    return f"{count / 1024**power:.{min(power, 1)}f} {unit}"
