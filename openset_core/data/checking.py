"""Whether a data set is what it should be: every image looked at, everything wrong named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.data.datasets import request_images
from openset_core.data.folders import ImageFiles, some
from openset_core.data.images import DataRequest, ImageSet
from openset_core.data.prefetch import Progress, no_progress, prefetch, workers
from openset_core.errors import DataError
from openset_core.registry import Registry, registry

Pixels = npt.NDArray[np.uint8]


@attrs.frozen(kw_only=True)
class SplitReport:
    """What one split of a data set holds.

    Attributes:
        split: its name.
        images: number of images, unreadable ones included.
        per_class: images of each class, by name.
        sizes: smallest and largest height and width in pixels.
        channels: numbers of channels that occur.
        values: smallest and largest pixel value.
        duplicates: images that repeat an earlier one; None when not looked for.
        problems: everything that is wrong, a sentence each; unreadable files first.
    """

    split: str
    images: int
    per_class: dict[str, int]
    sizes: tuple[int, int, int, int]
    channels: tuple[int, ...]
    values: tuple[int, int]
    duplicates: int | None
    problems: tuple[str, ...]


@attrs.define
class _Summary:
    """What is collected over all images."""

    heights: set[int] = attrs.field(factory=set)
    widths: set[int] = attrs.field(factory=set)
    channels: set[int] = attrs.field(factory=set)
    low: int = 255
    high: int = 0
    digests: set[bytes] = attrs.field(factory=set)
    repeated: list[str] = attrs.field(factory=list)
    unreadable: list[str] = attrs.field(factory=list)

    def add(self, pixels: Pixels, name: str, duplicates: bool) -> None:
        for seen, number in zip(
            (self.heights, self.widths, self.channels), pixels.shape, strict=True
        ):
            seen.add(number)
        self.low, self.high = min(self.low, int(pixels.min())), max(self.high, int(pixels.max()))
        if duplicates:
            digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
            digest.update(np.ascontiguousarray(pixels).data)
            if digest.digest() in self.digests:
                self.repeated.append(name)
            self.digests.add(digest.digest())


def check_split(
    name: str,
    split: str,
    root: Path,
    options: Mapping[str, Any] | None = None,
    *,
    duplicates: bool = False,
    download: bool = False,
    plugins: Registry | None = None,
    progress: Progress = no_progress,
) -> SplitReport:
    """Read every image of a split and compare with what the data set's spec promises.

    Args:
        name: the data set.
        split: one of its splits.
        root: folder that holds data sets.
        options: the data set's own options.
        duplicates: whether images are compared with each other.
        download: whether missing data may be fetched.
        plugins: where data sets are looked up.
        progress: wraps the iteration, with the number of images.

    Raises:
        DataError: the split is missing, or damaged as a whole.
        PluginError: no such data set.
    """
    spec = (plugins or registry()).find(name, ("dataset",)).spec
    request = DataRequest(part=split, root=root, download=download, lazily=True)
    source = request_images(name, request, plugins, options)
    summary = _Summary()
    images: Iterable[Pixels | DataError] = (
        source.images
        if isinstance(source, ImageSet)
        else prefetch(source.try_read, range(len(source)), 8 * workers())
    )
    for row, item in enumerate(progress(images, len(source))):
        if isinstance(item, DataError):
            summary.unreadable.append(str(item))
        else:
            label = str(source.files[row]) if isinstance(source, ImageFiles) else f"image {row}"
            summary.add(item, label, duplicates)
    inside = (source.labels >= 0) & (source.labels < len(source.classes))
    counts = np.bincount(source.labels[inside], minlength=len(source.classes)).tolist()
    per_class = dict(zip(source.classes, counts, strict=True))
    heights, widths = summary.heights or {0}, summary.widths or {0}
    return SplitReport(
        split=split,
        images=len(source),
        per_class=per_class,
        sizes=(min(heights), min(widths), max(heights), max(widths)),
        channels=tuple(sorted(summary.channels)),
        values=(summary.low, summary.high),
        duplicates=len(summary.repeated) if duplicates else None,
        problems=tuple(_problems(spec, split, summary, per_class, len(source))),
    )


def _problems(
    spec: Any, split: str, summary: _Summary, per_class: dict[str, int], images: int
) -> Iterator[str]:
    yield from (f"unreadable: {sentence}" for sentence in summary.unreadable)
    promised = spec.samples.get(split)
    if promised is not None and images != promised:
        yield f"{images:,} images, {promised:,} expected"
    classes = len(spec.classes) or spec.class_count
    if classes and len(per_class) != classes:
        yield f"{len(per_class)} classes, {classes} expected"
    sides = summary.heights | summary.widths
    if spec.side and sides - {spec.side}:
        least, most = min(sides), max(sides)
        measured = f"{least}" if least == most else f"{least} to {most}"
        yield f"images of {measured} pixels a side, {spec.side} expected"
    if outside := images - sum(per_class.values()):
        yield f"{outside} labels are none of the {len(per_class)} classes"
    if empty := [name for name, count in per_class.items() if not count]:
        yield f"no image of class {some(empty)}"
    if summary.channels and summary.low == summary.high:
        yield f"every pixel of every image has the value {summary.low}"
    if summary.repeated:
        yield f"repeats an earlier image: {some(summary.repeated)}"
