"""A list of image files with their classes, and the split that each belongs to.

A list is a CSV file, UTF-8, with the columns

- `file`: the image file, absolute or relative to the list's folder;
- `class`: the name of its class;
- `part`, if wanted: `train`, `validation`, `test`, `left out` (belongs to none of them), or
  `unreadable` (not an image of the set, though it is listed);
- any others, such as a `note`, which are for people.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from openset_core.errors import DataError, did_you_mean
from openset_core.files import atomic_write

SIDES = ("train", "validation", "test")
LEFT_OUT = "left out"
UNREADABLE = "unreadable"
PARTS = (*SIDES, LEFT_OUT, UNREADABLE)


@attrs.frozen(kw_only=True)
class ListedImage:
    """A line of a list.

    Attributes:
        file: the image file.
        label: name of its class.
        part: one of `PARTS`, or empty where the list says nothing.
        note: something about it for people.
    """

    file: Path
    label: str
    part: str = ""
    note: str = ""


def read_list(path: Path) -> list[ListedImage]:
    """The lines of a list, all but the unreadable images; their order is that of the set's rows.

    Raises:
        DataError: missing, no CSV file with these columns, or a part of another name.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            lacking = {"file", "class"} - set(reader.fieldnames or ())
            if lacking:
                raise DataError(
                    f"image list {path} lacks the column {' and '.join(sorted(lacking))}; its "
                    "first line names the columns file and class, and if wanted part"
                )
            images = [_line(row, path, reader.line_num) for row in reader]
    except OSError as error:
        raise DataError(f"image list {path} cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise DataError(f"image list {path} is no CSV file: {error}") from error
    images = [image for image in images if image.part != UNREADABLE]
    if not images:
        raise DataError(f"image list {path} lists no images")
    return images


def _line(row: dict[str, str | None], path: Path, number: int) -> ListedImage:
    file, label, part = (row.get(key) or "" for key in ("file", "class", "part"))
    if not file or not label:
        raise DataError(f"image list {path}, line {number}: the file or its class is missing")
    if part and part not in PARTS:
        raise DataError(
            f"image list {path}, line {number}: part is {part!r}{did_you_mean(part, PARTS)}; there "
            f"are {', '.join(PARTS)}"
        )
    return ListedImage(file=path.parent / file, label=label, part=part, note=row.get("note") or "")


def write_list(path: Path, images: Iterable[ListedImage]) -> None:
    """Write a list, atomically."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file", "class", "part", "note"])
    rows.writerows([str(image.file), image.label, image.part, image.note] for image in images)
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape")


def sides(path: Path, rows: int) -> dict[str, list[int]]:
    """Rows of an image set in each of `SIDES`, ascending, as a list says; the set has `rows`."""
    images = read_list(path)
    if len(images) != rows:
        raise DataError(f"image list {path} has {len(images)} images, its data set {rows}")
    return {side: [row for row, image in enumerate(images) if image.part == side] for side in SIDES}


def class_names(images: Sequence[ListedImage]) -> tuple[str, ...]:
    """The names of a list's classes, sorted; their order is that of the class numbers."""
    return tuple(sorted({image.label for image in images}))
