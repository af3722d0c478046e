"""Whether a data set is what it should be: every image looked at, everything wrong named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.data.datasets import request_images
from openset_core.data.folders import ImageFiles, some
from openset_core.data.images import DataRequest, ImageSet, pixel_digest
from openset_core.data.prefetch import Progress, no_progress, prefetch, workers
from openset_core.errors import DataError
from openset_core.registry import Registry, registry


@attrs.frozen(kw_only=True)
class SplitReport:
    """What one split of a data set holds."""

    split: str
    images: int  # unreadable ones included
    per_class: dict[str, int]
    sizes: tuple[int, int, int, int]  # least height and width, greatest height and width
    channels: tuple[int, ...]
    values: tuple[int, int]  # smallest and largest of the pixels
    duplicates: int | None  # images that repeat an earlier one; None when not looked for
    problems: tuple[str, ...]  # a sentence each; unreadable files first


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

    A `DataError` says that the split is missing, or damaged as a whole.
    """
    spec = (plugins or registry()).find(name, ("dataset",)).spec
    request = DataRequest(part=split, root=root, download=download, lazily=True)
    source = request_images(name, request, plugins, options)
    images: Iterable[npt.NDArray[np.uint8] | DataError] = (
        source.images
        if isinstance(source, ImageSet)
        else prefetch(source.try_read, range(len(source)), 8 * workers())
    )
    facts, digests = set[tuple[int, ...]](), set[bytes]()
    unreadable, repeated = list[str](), list[str]()
    for row, item in enumerate(progress(images, len(source))):
        if isinstance(item, DataError):
            unreadable.append(str(item))
            continue
        facts.add((*item.shape, int(item.min()), int(item.max())))
        if duplicates:
            digest = pixel_digest(item)
            if digest in digests:
                files = source.files if isinstance(source, ImageFiles) else None
                repeated.append(str(files[row]) if files else f"image {row}")
            digests.add(digest)
    heights, widths, channels, lows, highs = zip(*facts or [(0, 0, 0, 255, 0)], strict=True)
    inside = (source.labels >= 0) & (source.labels < len(source.classes))
    counts = np.bincount(source.labels[inside], minlength=len(source.classes)).tolist()
    report = SplitReport(
        split=split,
        images=len(source),
        per_class=dict(zip(source.classes, counts, strict=True)),
        sizes=(min(heights), min(widths), max(heights), max(widths)),
        channels=tuple(sorted(set(channels))) if facts else (),
        values=(min(lows), max(highs)),
        duplicates=len(repeated) if duplicates else None,
        problems=tuple(f"unreadable: {sentence}" for sentence in unreadable),
    )
    problems = list(_problems(spec, report, {*heights, *widths}))
    if repeated:
        problems.append(f"repeats an earlier image: {some(repeated)}")
    return attrs.evolve(report, problems=(*report.problems, *problems))


def _problems(spec: Any, report: SplitReport, sides: set[int]) -> Iterator[str]:
    promised = spec.samples.get(report.split)
    if promised is not None and report.images != promised:
        yield f"{report.images:,} images, {promised:,} expected"
    classes = len(spec.classes) or spec.class_count
    if classes and len(report.per_class) != classes:
        yield f"{len(report.per_class)} classes, {classes} expected"
    if report.channels and spec.side and sides - {spec.side}:
        least, most = min(sides), max(sides)
        measured = f"{least}" if least == most else f"{least} to {most}"
        yield f"images of {measured} pixels a side, {spec.side} expected"
    if outside := report.images - sum(report.per_class.values()):
        yield f"{outside} labels are none of the {len(report.per_class)} classes"
    if empty := [name for name, count in report.per_class.items() if not count]:
        yield f"no image of class {some(empty)}"
    if report.channels and report.values[0] == report.values[1]:
        yield f"every pixel of every image has the value {report.values[0]}"
