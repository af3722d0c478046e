"""Which images train, which are held out for the threshold, and which test.

Each known class is split by itself and by a seed. Copies of a picture stay on one side; a picture
that lies in two classes teaches nothing, or would be called wrong whatever is said of it.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt

from openset_core.data.image_folders.duplicates import Copies, groups, members
from openset_core.data.image_folders.scan import FoundFile, ImageFolderConfig, some
from openset_core.data.image_list import LEFT_OUT
from openset_core.errors import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
FEW_GROUPS = 10
"""Different pictures of a class below which a warning names it."""

LARGEST_SHARE = 0.3
"""Share of a class that near copies may chain together; beyond it they only look alike."""

_CHAIN = 5
_PURPOSES = {TRAIN: "training", VALIDATION: "the threshold", TEST: "testing"}

Rows = npt.NDArray[np.int64]


@attrs.define
class Division:
    """What becomes of each image, and why.

    Attributes:
        parts: by row, one of the parts of an image list.
        notes: by row, a word on the image for people.
        findings: what a user should know of all of it, a sentence each.
    """

    parts: list[str]
    notes: list[str]
    findings: list[str] = attrs.field(factory=list)

    def leave_out(self, rows: Sequence[int], note: str) -> None:
        """Leave images out of every part."""
        for row in rows:
            self.parts[row], self.notes[row] = LEFT_OUT, note


def divide(
    files: Sequence[FoundFile],
    copies: Copies,
    known: Sequence[str],
    wish: ImageFolderConfig,
    *,
    divided: bool,
) -> Division:
    """Split images by class.

    Args:
        files: the images, by row.
        copies: which of them show the same picture.
        known: the known classes.
        wish: shares and seed.
        divided: whether `files` come with sides.

    Raises:
        DataError: a known class without an image to train on, or no image to test or to hold out.
    """
    division = Division([""] * len(files), [""] * len(files))
    _unknown_classes(division, files, set(known), divided)
    _contradictions(division, files, copies.exact, set(known), wish.folder)
    shares = {} if divided else {TEST: wish.test}
    if not any(file.side == VALIDATION for file in files):
        shares[VALIDATION] = wish.validation
    numbers = _kept_together(division, files, copies, known)
    for name in known:
        rows = np.array([r for r, f in enumerate(files) if f.label == name], np.int64)
        rows = rows[[not division.parts[row] for row in rows]]
        alike = [rows[group] for group in members(numbers[rows])]
        if divided:
            alike = _given_sides(division, files, alike)
        _split_class(division, name, alike, shares, wish.split_seed)
    _across(division, files, copies, wish.folder)
    _check(division, files, known, wish)
    return division


def _unknown_classes(
    division: Division, files: Sequence[FoundFile], known: set[str], divided: bool
) -> None:
    """Images of other classes are for testing, unless they lie among training images."""
    aside = []
    for row, file in enumerate(files):
        if file.label in known:
            continue
        if divided and file.side != TEST:
            aside.append(row)
        else:
            division.parts[row] = TEST
    division.leave_out(aside, "not of a known class, and not for testing")
    if aside:
        names = sorted({files[row].label for row in aside})
        division.findings.append(
            f"{len(aside)} training images of classes that are not known were left out "
            f"({some(names)})"
        )


def _contradictions(
    division: Division, files: Sequence[FoundFile], exact: Rows, known: set[str], folder: Path
) -> None:
    """Leave out a picture in two known classes, and unknown images that show a known one."""
    found = []
    for rows in members(groups(len(files), exact)):
        labels = {files[row].label for row in rows}
        ours = labels & known
        if len(labels) < 2 or not ours:
            continue
        wrong = [r for r in rows if len(ours) > 1 or files[r].label not in known]
        division.leave_out(wrong, f"the same picture lies in {' and '.join(sorted(labels))}")
        found.append(_equal(files, rows, folder))
    if found:
        division.findings.append(
            f"{_counted(found, 'picture lies', 'pictures lie')} in more than one class; files that "
            f"contradict each other were left out: {some(found, separator='; ')}"
        )


def _kept_together(
    division: Division, files: Sequence[FoundFile], copies: Copies, known: Sequence[str]
) -> Rows:
    """A number for each image, the same for copies in one class."""
    labels = np.array([file.label for file in files])

    def inside(pairs: Rows) -> Rows:
        chosen: Rows = pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]]
        return chosen

    exact, near = inside(copies.exact), inside(copies.near)
    numbers = groups(len(files), np.concatenate([exact, near]))
    loose = []
    for name in known:
        own = np.flatnonzero(labels == name)
        largest = max(Counter(numbers[own].tolist()).values(), default=0)
        if largest > max(_CHAIN, LARGEST_SHARE * len(own)):
            loose.append(name)
    reason = copies.unsearched
    if loose:
        near = near[~np.isin(labels[near[:, 0]], loose)]
        numbers = groups(len(files), np.concatenate([exact, near]))
        reason = f"so many images of {some(loose)} look alike"
    if reason:
        division.findings.append(
            f"only exact copies were kept on one side of the split, as {reason}; the accuracy on "
            "test images may be too good"
        )
    return numbers


def _given_sides(
    division: Division, files: Sequence[FoundFile], alike: Sequence[Rows]
) -> list[Rows]:
    """Take over the sides of a divided folder; test images keep theirs, their copies go.

    Returns:
        The groups of copies that are for training or have no side yet.
    """
    left = []
    for rows in alike:
        sides = {files[row].side for row in rows}
        strongest = next(side for side in (TEST, VALIDATION, TRAIN) if side in sides)
        kept = [row for row in rows if files[row].side == strongest]
        gone = [row for row in rows if files[row].side != strongest]
        division.leave_out(gone, f"a copy of an image for {_PURPOSES[strongest]}")
        if strongest == TRAIN:
            left.append(np.array(kept, np.int64))
        for row in kept:
            division.parts[row] = strongest
    return left


def _split_class(
    division: Division, name: str, alike: Sequence[Rows], shares: Mapping[str, float], seed: int
) -> None:
    """Draw the images of a class for each part but training; at least one group trains."""
    total = sum(map(len, alike))
    # Its own stream for each class: another class more or less does not change the split.
    own = np.random.default_rng((seed, zlib.crc32(name.encode("utf-8", "surrogateescape"))))
    order = [alike[number] for number in own.permutation(len(alike))]
    for part, share in shares.items():
        taken, order = _taken(order, max(1, round(share * total)))
        for row in (row for rows in taken for row in rows):
            division.parts[row] = part
    for row in (row for rows in order for row in rows):
        division.parts[row] = TRAIN


def _taken(order: Sequence[Rows], wanted: int) -> tuple[list[Rows], list[Rows]]:
    """Groups with so many images together, and the rest, which keeps one group at least."""
    taken: list[Rows] = []
    rest: list[Rows] = []
    for number, rows in enumerate(order):
        last = number == len(order) - 1 and not rest
        if len(rows) <= wanted and not last:
            taken.append(rows)
            wanted -= len(rows)
        else:
            rest.append(rows)
    if not taken and len(rest) > 1:
        taken = [rest.pop(min(range(len(rest)), key=lambda number: len(rest[number])))]
    return taken, rest


def _across(division: Division, files: Sequence[FoundFile], copies: Copies, folder: Path) -> None:
    """Say which images are copies of others."""
    for kind, pairs in (("the same picture as", copies.exact), ("nearly the same as", copies.near)):
        same = []
        for one, other in pairs:
            if not division.notes[other]:
                division.notes[other] = f"{kind} {files[one].path}"
            if files[one].label == files[other].label:
                same.append(_equal(files, (one, other), folder))
        if same:
            division.findings.append(
                f"{_counted(same, 'file is', 'files are')} {kind} another of the class; copies "
                f"were kept on one side of the split: {some(same, separator='; ')}"
            )
    crossing = [
        _equal(files, (one, other), folder)
        for one, other in copies.near
        if files[one].label != files[other].label
        and LEFT_OUT not in (division.parts[one], division.parts[other])
    ]
    if crossing:
        division.findings.append(
            f"{_counted(crossing, 'pair', 'pairs')} of images in different classes are nearly the "
            f"same, and were kept: {some(crossing, separator='; ')}"
        )


def _check(
    division: Division, files: Sequence[FoundFile], known: Sequence[str], wish: ImageFolderConfig
) -> None:
    """Refuse a split that cannot work, and name classes with few images."""
    count = Counter((file.label, part) for file, part in zip(files, division.parts, strict=True))
    for name in known:
        if not count[name, TRAIN]:
            raise DataError(
                f"known class {name!r} has no image left to train on; `openset run` needs at least "
                "three different ones of a class"
            )
    for part in (TEST, VALIDATION):
        if not any(count[name, part] for name in known):
            raise DataError(
                f"no image of a known class is left for {_PURPOSES[part]}; the known classes have "
                f"{', '.join(f'{name} {_total(count, name)}' for name in known)} images in "
                f"{wish.folder}; three different ones of a class are the least"
            )
    few = [name for name in known if _total(count, name) < FEW_GROUPS]
    if few:
        shown = [f"{name} {_total(count, name)}" for name in few]
        division.findings.append(
            f"few images, so that little can be learnt and measured: {some(shown, 20)}"
        )
    held_out = sum(count[name, VALIDATION] for name in known)
    if held_out < 20:
        division.findings.append(
            f"the threshold rests on {held_out} held-out images, and is coarse"
        )


def _total(count: Counter[tuple[str, str]], name: str) -> int:
    return sum(count[name, part] for part in (TRAIN, VALIDATION, TEST))


def _counted(found: Sequence[object], one: str, many: str) -> str:
    return f"{len(found)} {one if len(found) == 1 else many}"


def _equal(files: Sequence[FoundFile], rows: Iterable[int], folder: Path) -> str:
    return " = ".join(str(relative(folder, files[row].path)) for row in rows)


def relative(folder: Path, path: Path) -> Path:
    """A path as it is named in sentences."""
    return path.relative_to(folder) if path.is_relative_to(folder) else path
