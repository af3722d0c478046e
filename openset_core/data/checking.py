"""Whether a data set is what it should be: every image looked at, everything wrong named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.data.datasets import request_images
from openset_core.data.folders import NAMED, ImageFiles
from openset_core.data.images import DataRequest, ImageSet
from openset_core.data.prefetch import prefetch, workers
from openset_core.errors import DataError
from openset_core.registry import Registry, registry

Pixels = npt.NDArray[np.uint8]
Progress = Callable[[Iterable[Any], int], Iterable[Any]]
CHUNK = 4096


@attrs.frozen(kw_only=True)
class SplitReport:
    """What was found in one part of a data set.

    Attributes:
        part: its name.
        images: number of images, unreadable ones included.
        classes: number of classes.
        per_class: images of each class, by name.
        sizes: smallest and largest height and width in pixels.
        channels: numbers of channels that occur.
        values: smallest and largest pixel value.
        duplicates: images that repeat an earlier one; None when not looked for.
        problems: everything that is wrong, a sentence each; unreadable files first.
    """

    part: str
    images: int
    classes: int
    per_class: dict[str, int]
    sizes: tuple[int, int, int, int]
    channels: tuple[int, ...]
    values: tuple[int, int]
    duplicates: int | None
    problems: tuple[str, ...]


@attrs.define
class _Seen:
    """What goes over all images."""

    heights: set[int] = attrs.field(factory=set)
    widths: set[int] = attrs.field(factory=set)
    channels: set[int] = attrs.field(factory=set)
    low: int = 255
    high: int = 0
    digests: set[bytes] = attrs.field(factory=set)
    repeated: list[str] = attrs.field(factory=list)
    unreadable: list[str] = attrs.field(factory=list)

    def add(self, images: Pixels) -> None:
        """Take in images [n, H, W, C]."""
        height, width, channels = images.shape[1:]
        self.heights.add(height)
        self.widths.add(width)
        self.channels.add(channels)
        self.low, self.high = min(self.low, int(images.min())), max(self.high, int(images.max()))

    def compare(self, pixels: Pixels, name: str) -> None:
        """Look for an image [H, W, C] among the earlier ones."""
        digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(pixels).data)
        if digest.digest() in self.digests:
            self.repeated.append(name)
        self.digests.add(digest.digest())


def _silent(items: Iterable[Any], _total: int) -> Iterable[Any]:
    return items


def check_split(
    name: str,
    part: str,
    root: Path,
    options: Mapping[str, Any] | None = None,
    *,
    duplicates: bool = False,
    download: bool = False,
    plugins: Registry | None = None,
    progress: Progress = _silent,
) -> SplitReport:
    """Read every image of a part and compare with what the data set's spec promises.

    Args:
        name: the data set.
        part: one of its parts.
        root: folder that holds data sets.
        options: the data set's own options.
        duplicates: whether images are compared with each other.
        download: whether missing data may be fetched.
        plugins: where data sets are looked up.
        progress: wraps the iteration, with the number of images.

    Raises:
        DataError: the part is missing, or damaged as a whole.
        PluginError: no such data set.
    """
    spec = (plugins or registry()).find(name, ("dataset",)).spec
    request = DataRequest(part=part, root=root, download=download, lazily=True)
    source = request_images(name, request, plugins, options)
    seen = _Seen()
    for row, item in progress(_images(source), len(source)):
        if isinstance(item, DataError):
            seen.unreadable.append(str(item))
            continue
        if isinstance(source, ImageFiles):
            seen.add(item[None])
        if duplicates:
            label = str(source.files[row]) if isinstance(source, ImageFiles) else f"image {row}"
            seen.compare(item, label)
    if isinstance(source, ImageSet):
        for start in range(0, len(source), CHUNK):
            seen.add(source.images[start : start + CHUNK])
    labels = source.labels
    inside = (labels >= 0) & (labels < len(source.classes))
    counts = np.bincount(labels[inside], minlength=len(source.classes))
    heights, widths = seen.heights or {0}, seen.widths or {0}
    return SplitReport(
        part=part,
        images=len(source),
        classes=len(source.classes),
        per_class=dict(zip(source.classes, map(int, counts), strict=True)),
        sizes=(min(heights), min(widths), max(heights), max(widths)),
        channels=tuple(sorted(seen.channels)),
        values=(seen.low, seen.high),
        duplicates=len(seen.repeated) if duplicates else None,
        problems=tuple(_problems(spec, part, source, seen, counts, int((~inside).sum()))),
    )


def _images(source: ImageSet | ImageFiles) -> Iterator[tuple[int, Pixels | DataError]]:
    if isinstance(source, ImageSet):
        yield from enumerate(source.images)
    else:
        rows = range(len(source))
        yield from enumerate(prefetch(partial(_read, source), rows, 8 * workers()))


def _read(source: ImageFiles, row: int) -> Pixels | DataError:
    return source.try_read(row)


def _problems(
    spec: Any,
    part: str,
    source: ImageSet | ImageFiles,
    seen: _Seen,
    counts: npt.NDArray[np.int64],
    outside: int,
) -> Iterator[str]:
    yield from (f"unreadable: {sentence}" for sentence in seen.unreadable)
    promised = spec.samples.get(part)
    if promised is not None and len(source) != promised:
        yield f"{len(source):,} images, {promised:,} expected"
    classes = len(spec.classes) or spec.class_count
    if classes and len(source.classes) != classes:
        yield f"{len(source.classes)} classes, {classes} expected"
    sides = seen.heights | seen.widths
    if spec.side and sides - {spec.side}:
        least, most = min(sides), max(sides)
        found = f"{least}" if least == most else f"{least} to {most}"
        yield f"images of {found} pixels a side, {spec.side} expected"
    if outside:
        yield f"{outside} labels are none of the {len(source.classes)} classes"
    empty = [str(name) for name, count in zip(source.classes, counts, strict=True) if not count]
    if empty:
        more = f" and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
        yield f"no image of class {', '.join(empty[:NAMED])}{more}"
    if seen.channels and seen.low == seen.high:
        yield f"every pixel of every image has the value {seen.low}"
    if seen.repeated:
        more = f" and {len(seen.repeated) - NAMED} more" if len(seen.repeated) > NAMED else ""
        yield f"repeats an earlier image: {', '.join(seen.repeated[:NAMED])}{more}"
